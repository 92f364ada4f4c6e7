//! The worker: what one worker runs, fetches and keeps.
