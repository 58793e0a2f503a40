// swift-tools-version: 6.0
// Delta for Swift. On Apple's systems the library is CDelta.xcframework beside this file, made by
// packaging/apple/build.sh; elsewhere it is `-ldelta_ffi`, and whoever builds says where with `-Xlinker -L`.
import PackageDescription

#if os(Linux)
let library: Target = .systemLibrary(name: "CDelta", path: "Sources/CDelta")
#else
let library: Target = .binaryTarget(name: "CDelta", path: "CDelta.xcframework")
#endif

let package = Package(
    name: "Delta",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [.library(name: "DeltaKit", targets: ["DeltaKit"])],
    targets: [
        library,
        // Generated (`cargo xtask bindings`), but for its ids.
        .target(name: "DeltaFFI", dependencies: ["CDelta"], linkerSettings: [
            .linkedLibrary("delta_ffi", .when(platforms: [.linux])),
            .linkedFramework("Security", .when(platforms: [.iOS, .macOS])),
        ]),
        .target(name: "DeltaKit", dependencies: ["DeltaFFI"], resources: [.copy("PrivacyInfo.xcprivacy")]),
        .executableTarget(name: "DeltaScenario", dependencies: ["DeltaKit"], path: "Tests/DeltaScenario"),
    ],
    swiftLanguageModes: [.v6]
)
