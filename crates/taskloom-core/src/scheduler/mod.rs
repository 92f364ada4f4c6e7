//! The scheduler: decides where and when tasks run.
