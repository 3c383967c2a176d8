//! SCIM: identity providers push users and groups into a directory.

mod commands;
mod crowds;
mod kills;
mod passwords;
mod providers;
mod questions;
mod routes;
mod stories;
