#import <DeltaSpec/DeltaSpec.h>

/// Hands every call on to DeltaModuleBridge (Swift).
@interface DeltaModule : NativeDeltaSpecBase <NativeDeltaSpec>
@end
