//! `.dvc/fanout`: paths, the run lock, the journal, file formats and their versions.
