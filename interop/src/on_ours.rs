//! The program in `published_api.rs` and `published_types.rs`, compiled against this project.

use btlightning_ours as btlightning;

include!("published_api.rs");
