//! What ring, memchr and the C library choose their code by, when the program runs.
//!
//! Asked within valgrind, which has a processor of its own: an excerpt of the real one.

/// The architecture, and those of the features that are there.
#[cfg(target_arch = "x86_64")]
pub(crate) fn features() -> String {
    let features = [
        ("ssse3", is_x86_feature_detected!("ssse3")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("aes", is_x86_feature_detected!("aes")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("sha", is_x86_feature_detected!("sha")),
        ("vaes", is_x86_feature_detected!("vaes")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    let there = features.into_iter().filter_map(|(name, there)| there.then_some(name));
    ["x86_64"].into_iter().chain(there).collect::<Vec<_>>().join(" ")
}

/// The architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn features() -> String {
    std::env::consts::ARCH.to_owned()
}
