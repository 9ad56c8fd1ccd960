"""One test for each rule of RFC 9113 and RFC 7541 that a client can break or rely on, by section."""
