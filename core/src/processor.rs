//! Whether the processor runs the assembly that computes on Curve25519 (docs/adr/0008).

/// Whether the processor has all that the library insists on: without, it panics.
#[cfg(target_arch = "x86_64")]
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

/// Whether the processor has all that the library insists on: without, it panics.
#[cfg(target_arch = "aarch64")]
pub(crate) fn runs_assembly() -> bool {
    use std::arch::is_aarch64_feature_detected;
    is_aarch64_feature_detected!("neon")
        && is_aarch64_feature_detected!("aes")
        && is_aarch64_feature_detected!("pmull")
        && is_aarch64_feature_detected!("sha2")
}
