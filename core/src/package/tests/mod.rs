//! Hostile and honest packages of every format, made here.

mod described;
mod hostile;
mod made;
