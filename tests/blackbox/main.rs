//! Black-box tests: the real binary, the real store in a temporary folder, real HTTP.

mod histories;
mod kit;
mod laws;
mod model;
mod model_equals_server;
mod stories;
