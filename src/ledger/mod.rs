//! What the base keeps: an SQLite file, and the clerk who alone changes it.
