//! The real program, with real signals, real children and real servers. Needs etcd, haproxy, nginx, dnsmasq, curl,
//! strace and unshare; `scripts/test` installs them.

mod commands;
mod conformance;
mod ending;
mod exec;
mod faults;
mod file_backend;
mod javascript;
mod logs;
mod names;
mod one_shot;
mod output;
mod pid_file;
mod reload;
mod running;
mod samples;
mod scratch;
mod services;
mod support;
mod systemd;
mod tutorial;
mod watch;
