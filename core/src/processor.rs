//! Whether the processor runs the assembly that computes on Curve25519 (docs/adr/0008).
//!
//! What graviola asserts, which panics otherwise; and BMI2, which its assembly uses without asking.

/// Whether it has everything that is needed.
#[cfg(all(feature = "fast-curve25519", target_arch = "x86_64"))]
pub(crate) fn runs_assembly() -> bool {
    use std::arch::is_x86_feature_detected;
    is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("pclmulqdq")
}

/// Whether it has everything that is needed.
#[cfg(all(feature = "fast-curve25519", target_arch = "aarch64"))]
pub(crate) fn runs_assembly() -> bool {
    use std::arch::is_aarch64_feature_detected;
    is_aarch64_feature_detected!("neon")
        && is_aarch64_feature_detected!("aes")
        && is_aarch64_feature_detected!("pmull")
        && is_aarch64_feature_detected!("sha2")
}

/// There is none in this build.
#[cfg(not(all(feature = "fast-curve25519", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) const fn runs_assembly() -> bool {
    false
}
