//! Schema changes against a real PostgreSQL.

mod rig;
mod stories;
