//! The tables in PostgreSQL: what is in them, and how they come there.

mod equal_answers;
mod figures;
mod operating;
mod queries;
