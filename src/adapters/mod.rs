//! One file per outside thing: thin, no decisions.
