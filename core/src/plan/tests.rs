//! The plan, as tables: a world, events, and the decisions, each as one line of text.

mod notation;
mod properties;
mod stories;
mod world;
