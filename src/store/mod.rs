//! Files of contents on a disk, whole or growing: what bases and nodes serve to the next node.
