//! The plan, as tables: a world, what happens in it, and what is decided, each as one line of text.

mod notation;
mod properties;
mod stories;
mod world;
