//! The shell: threads, clocks, processes and sockets around the rules of `taskloom-core`.
