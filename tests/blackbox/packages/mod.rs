//! Rollcall as it is packaged: the service manager, the files of packaging/, and what the pages for
//! operators name.

mod drill;
mod files;
mod pages;
mod proxies;
mod service_manager;
