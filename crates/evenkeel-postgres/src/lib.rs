//! Schema changes of PostgreSQL by expand and contract.
//!
//! A change ships with the code that needs it: *expand* gives the data its new shape beside the old
//! one and keeps both in step, *backfill* fills the new shape for rows that are there already, and
//! *contract* takes the old shape away, once nobody uses it. Until then everything can be undone,
//! and what was written through either shape is kept.
//!
//! The way of one change:
//!
//! 1. [`sql`] reads migration files: what people have already. Nothing else is asked of them, but an
//!    answer in a comment where SQL cannot tell what is meant. Or the file says what shall be there,
//!    and [`desired`] writes the migration.
//! 2. [`wanted`] applies what was read to the [`shape`] the database has, and remembers for each
//!    column where it comes from.
//! 3. [`plan`] says what has to be done, as SQL, in phases; and what is dangerous about it. It is
//!    pure: the same shapes give the same plan.
//! 4. [`execute`] does it, remembers it in the database itself, and goes on where it was ended.
//!
//! What is read from a live database is read by [`catalog`], into the same [`shape`].

#![forbid(unsafe_code)]

pub mod catalog;
pub mod connect;
pub mod desired;
pub mod execute;
pub mod kind;
pub mod name;
pub mod plan;
pub mod problem;
pub mod shape;
pub mod sql;
pub mod wanted;
