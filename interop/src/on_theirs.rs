//! The program in `published_api.rs` and `published_types.rs`, compiled against the published package.

use btlightning_published as btlightning;

include!("published_api.rs");
