// swift-tools-version: 6.1
import PackageDescription

/// Warnings are errors, in Swift 6 language mode (complete concurrency checking), with explicit existentials.
let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .unsafeFlags(["-warnings-as-errors", "-Xcc", "-D_GNU_SOURCE"]),
]
let strictC: [CSetting] = [.unsafeFlags(["-Wall", "-Wextra", "-Werror", "-std=gnu11"])]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")

let package = Package(
    name: "aurora",
    products: [
        .executable(name: "aurora", targets: ["aurora"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    ],
    targets: [
        // The only C: system headers, request numbers and inline wrappers; no logic.
        .target(name: "CLinux", cSettings: strictC),
        // The libraries of the store: xxHash, zstd, liburing.
        .target(
            name: "CStore", cSettings: strictC, linkerSettings: [.linkedLibrary("zstd"), .linkedLibrary("uring")]),
        // The binaries that run inside a guest (PV shim, agent), embedded by `.incbin`; `make guest` builds them.
        .target(name: "GuestBlobs", exclude: ["README.md"], cSettings: [.headerSearchPath(".")]),
        // Owners for descriptors, mappings, threads; epoll; typed errors.
        .target(name: "Linux", dependencies: ["CLinux"], swiftSettings: strict),
        // Host <-> guest agent messages, shared source with the Embedded Swift agent.
        .target(name: "AgentProtocol", swiftSettings: strict),
        // The agent's pure parsing code; the agent itself is built by scripts/build-agent (Embedded Swift, musl).
        .target(name: "GuestAgentCore", dependencies: ["AgentProtocol"], path: "Sources/GuestAgent/Core", swiftSettings: strict),
        .target(name: "AgentClient", dependencies: ["AgentProtocol", "Linux", "CLinux"], swiftSettings: strict),
        .target(name: "AuroraVMM", dependencies: ["CLinux", "Linux", "GuestBlobs"], swiftSettings: strict),
        .target(
            name: "Images", dependencies: ["Linux", "CLinux"],
            resources: [
                .embedInCode("Recipes/apt.sh"), .embedInCode("Recipes/kernel/fetch.sh"), .embedInCode("Recipes/kernel/modules.sh"),
                .embedInCode("Recipes/module/build-module.sh"), .embedInCode("Recipes/module/aurora.c"),
                .embedInCode("Recipes/module/limits.h"), .embedInCode("Recipes/module/Kbuild"), .embedInCode("Recipes/base/build-image.sh"),
                .embedInCode("Recipes/import/make-root.sh"), .embedInCode("Recipes/confined.sh"),
            ],
            swiftSettings: strict),
        // Names, configuration, state and control of persistence groups; published ports; the runtime of a VMM process.
        .target(name: "Groups", dependencies: ["AgentClient", "AgentProtocol", "Linux", "CLinux"], swiftSettings: strict),
        // Pages, page maps, checkpoints, volumes on a disk; deduplication, collection, scrub. Knows nothing of machines.
        .target(name: "Store", dependencies: ["CStore", "Linux", "CLinux"], swiftSettings: strict),
        // The epoch pipeline and its backends; joins machines and stores.
        .target(name: "Snapshot", dependencies: ["AuroraVMM", "Store", "Linux", "CLinux"], swiftSettings: strict),
        // Functions: their catalogue, the pool of instances, the Lambda-compatible gateway. Knows neither machines nor stores.
        .target(
            name: "Functions",
            dependencies: [
                "AgentClient", "AgentProtocol", "Linux", "CLinux", logging,
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            resources: [.embedInCode("Page/page.html")], swiftSettings: strict),
        // Measures a store against the plain file operations it stands on.
        .executableTarget(name: "StoreBench", dependencies: ["Store"], path: "bench/StoreBench", swiftSettings: strict),
        .executableTarget(
            name: "aurora",
            dependencies: [
                "Functions", "Snapshot", "Store", "Groups", "AuroraVMM", "AgentClient", "AgentProtocol", "Images", "Linux", "CLinux",
                argumentParser, logging,
            ],
            swiftSettings: strict),
        // What all tests need of their common process.
        .target(name: "TestProcess", path: "Tests/TestProcess", cSettings: strictC),
        .testTarget(name: "TidyTests", dependencies: ["TestProcess"], swiftSettings: strict),
        .testTarget(name: "LinuxTests", dependencies: ["Linux", "CLinux"], swiftSettings: strict),
        .testTarget(
            name: "AuroraVMMTests", dependencies: ["AuroraVMM", "AgentClient", "AgentProtocol", "Linux", "CLinux"],
            exclude: ["KVM/Guest"], swiftSettings: strict),
        .testTarget(
            name: "SnapshotTests", dependencies: ["Snapshot", "AuroraVMM", "Linux", "CLinux"], exclude: ["Guest"], swiftSettings: strict),
        // Pipelines without a machine, threads or time: thousands of lives by their seeds.
        .testTarget(name: "PipelineSimulation", dependencies: ["Snapshot", "AuroraVMM", "Linux"], swiftSettings: strict),
        .testTarget(name: "AgentProtocolTests", dependencies: ["AgentProtocol", "AgentClient"], swiftSettings: strict),
        .testTarget(name: "GroupsTests", dependencies: ["Groups", "AgentProtocol", "Linux", "CLinux"], swiftSettings: strict),
        .testTarget(
            name: "AgentTests", dependencies: ["AgentProtocol", "AgentClient", "GuestAgentCore", "Linux", "CLinux"], swiftSettings: strict),
        // A disk in memory with faults and power cuts, for the tests of the store and of what stands on it.
        .target(name: "StoreSimulation", dependencies: ["Store", "CLinux"], path: "Tests/StoreSimulation", swiftSettings: strict),
        // Writes to a store until it is killed.
        .executableTarget(name: "StoreExercise", dependencies: ["Store"], path: "Tests/StoreExercise", swiftSettings: strict),
        .testTarget(
            name: "StoreTests", dependencies: ["Store", "StoreSimulation", "StoreExercise", "Linux", "CLinux", "CStore"],
            swiftSettings: strict),
        .testTarget(
            name: "FunctionsTests",
            dependencies: [
                "Functions", "AgentProtocol", "Linux", "CLinux", logging, .product(name: "NIOPosix", package: "swift-nio"),
            ], swiftSettings: strict),
        .testTarget(name: "CampaignTests", dependencies: ["aurora"], swiftSettings: strict),
        .testTarget(
            name: "CommandTests",
            dependencies: [
                "aurora", "Functions", "Groups", "Snapshot", "Store", "AuroraVMM", "AgentClient", "AgentProtocol", "Linux", "CLinux",
            ],
            exclude: ["Guest"], swiftSettings: strict),
        .testTarget(name: "ImagesTests", dependencies: ["Images", "Linux", "CLinux"], swiftSettings: strict),
    ]
)

// Fuzzers exist only with AURORA_FUZZ=1 (scripts/fuzz): the code they drive is built with their instrumentation.
if Context.environment["AURORA_FUZZ"] != nil {
    let instrumented = ["Linux", "AuroraVMM", "Store", "Images", "AgentProtocol", "GuestAgentCore", "Functions"]
    for target in package.targets where instrumented.contains(target.name) {
        target.swiftSettings = (target.swiftSettings ?? []) + [.unsafeFlags(["-sanitize=fuzzer"])]
    }
    let runtime = Context.environment["AURORA_FUZZ_RUNTIME"] ?? "/usr/lib/clang"
    let fuzzers: [(name: String, drives: [Target.Dependency])] = [
        ("FuzzDevices", ["AuroraVMM", "Linux", "CLinux"]),
        ("FuzzFiles", ["Images", "AuroraVMM", "CLinux"]),
        ("FuzzAgent", ["AgentProtocol", "GuestAgentCore", "CLinux"]),
        ("FuzzStore", ["Store", "CLinux"]),
        ("FuzzGateway", ["Functions", "CLinux"]),
        ("FuzzImport", ["Images", "Linux", "CLinux"]),
    ]
    for (name, drives) in fuzzers {
        package.targets.append(
            .executableTarget(
                name: name, dependencies: drives, path: "Fuzz/\(name)", exclude: name == "FuzzImport" ? ["Seeds"] : [],
                swiftSettings: strict + [.enableExperimentalFeature("Extern"), .unsafeFlags(["-parse-as-library"])],
                linkerSettings: [.unsafeFlags(["-L\(runtime)", "-lclang_rt.fuzzer_no_main-x86_64", "-lstdc++", "-lm"])]))
    }
}
