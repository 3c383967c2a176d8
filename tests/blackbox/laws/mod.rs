//! Laws that hold for the whole: the model and the server agree, and any answer can be repeated.

pub mod audit_equals_model;
pub mod audit_rules;
pub mod copies;
pub mod cut_lists;
pub mod deliveries;
pub mod directories_equal_model;
pub mod indexes;
pub mod kept_answers;
pub mod observation_rules;
pub mod observations_equal_model;
pub mod observed_documents;
pub mod orders;
pub mod packed_views;
pub mod paging;
pub mod repeating;
pub mod roles_equal_model;
pub mod rules;
pub mod scim_equals_model;
pub mod sight_rules;
pub mod sights;
pub mod sights_equal_model;
pub mod stories;
