//! The order in which the tasks of a graph should run.
