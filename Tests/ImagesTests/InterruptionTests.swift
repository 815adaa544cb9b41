import CLinux
import FoundationEssentials
import Linux
import Synchronization
import Testing

@testable import Images

@Suite struct InterruptionTests {
    @Test func failureLeavesTheFormerImage() throws {
        let fixture = try Fixture()
        let before = try fixture.images().ensureBase(progress: silent)
        let failing = fixture.images(
            "truncate -s 4096 \"$1/root.ext4\"\necho 'E: Unable to locate package nope' >&2\necho last >&2\nexit 5\n")
        #expect { try failing.ensureBase(progress: silent) } throws: {
            guard case ImageError.recipeFailed("image base", "Unable to locate package nope", let log) = $0 else { return false }
            return (try? Files.size(log).bytes) ?? 0 > 0
        }
        #expect(try fixture.images().open(.base).manifest == before.manifest)
        #expect(try fixture.names("images") == ["base"])
    }

    @Test(arguments: [
        "kill -KILL $$", "truncate -s 4096 \"$1/root.ext4\"; kill -TERM $$", "exit 1", "true", "truncate -s 0 \"$1/root.ext4\"",
        "printf x > \"$1/root.ext4\"", "mkdir \"$1/root.ext4\"; : > \"$1/packages\"", "rm -rf \"$1\"",
    ])
    func noHalfMadeImage(script: String) throws {
        let fixture = try Fixture()
        #expect(throws: ImageError.self) { try fixture.images(script).ensureBase(progress: silent) }
        #expect(try fixture.names("images").isEmpty)
        #expect(throws: Never.self) { try fixture.images().ensureBase(progress: silent) }
    }

    @Test func whatAKilledBuildLeftIsRemoved() throws {
        let fixture = try Fixture()
        try fixture.write("left", to: "images/.building-base/result/root.ext4")
        try fixture.write("left", to: "images/.building-base/tmp/deep/er")
        try fixture.write("another's", to: "images/.building-other/result/root.ext4")
        try fixture.write("under way", to: "images/.building-busy/result/root.ext4")
        let busy = try #require(
            try BuildLock.acquire(BuildArea.lockPath(name: "busy", parent: "\(fixture.path)/images"), onWait: { false }))
        _ = try fixture.images().ensureBase(progress: silent)
        // The other's goes as well, whatever is used next; what somebody is building stays.
        #expect(try fixture.names("images") == [".building-busy", "base"])
        #expect(try fixture.images().list().map(\.name) == [.base])
        withExtendedLifetime(busy) {}
    }

    /// A build that had to wait, because somebody only looked for what killed builds left, is done all the same.
    @Test func refreshingBuildsAnew() async throws {
        let fixture = try Fixture()
        let store = fixture.images("echo x >> '\(fixture.path)/runs'\n" + Fixture.goodImage)
        let name = try ImageName("a")
        _ = try store.build(name, packages: [], progress: silent)
        let lockPath = BuildArea.lockPath(name: "a", parent: "\(fixture.path)/images")
        var held = try BuildLock.acquire(lockPath, onWait: { false })?.lock
        try #require(held != nil)
        let waits = Waits()
        async let build = onThread { try store.build(name, packages: [], refresh: true) { waits.note($0) } }
        while waits.count.load(ordering: .relaxed) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        held = nil
        _ = try await build
        #expect(try Files.size("\(fixture.path)/runs").bytes == 4)
    }

    /// Eight builders of one name at once: one builds, the others wait and use what it made.
    @Test func concurrentBuildersBuildOnce() async throws {
        let fixture = try Fixture()
        let store = fixture.images("echo x >> '\(fixture.path)/runs'\nsleep 0.3\n" + Fixture.goodImage)
        let waits = Waits()
        try await withThrowingTaskGroup(of: ImageManifest.self) { group in
            for _ in 0..<8 {
                group.addTask { try await onThread { try store.ensureBase { waits.note($0) }.manifest } }
            }
            var manifests: Set<ImageManifest> = []
            for try await manifest in group { manifests.insert(manifest) }
            #expect(manifests.count == 1)
        }
        #expect(waits.count.load(ordering: .relaxed) > 0)
        #expect(try Files.size("\(fixture.path)/runs").bytes == 2)
    }

    @Test func aBuildUnderWayIsNotRemoved() async throws {
        let fixture = try Fixture()
        _ = try fixture.images().ensureBase(progress: silent)
        // The recipe goes on when the test has seen what it wanted to see, or after a minute.
        let wait = "touch '\(fixture.path)/started'\nfor i in $(seq 600); do [ ! -e '\(fixture.path)/go' ] || break; sleep 0.1; done\n"
        let slow = fixture.images(wait + Fixture.goodImage)
        async let build = onThread { try slow.ensureBase(progress: silent) }
        while !Files.exists("\(fixture.path)/started") { try await Task.sleep(for: .milliseconds(5)) }
        #expect { try slow.remove(.base) } throws: { if case ImageError.beingBuilt("base") = $0 { true } else { false } }
        try fixture.write("", to: "go")
        _ = try await build
        try slow.remove(.base)
    }

    /// The recipe's processes hold the lock: when its starter is gone, the next builder still waits for the orphan.
    @Test func orphansKeepTheLock() throws {
        let fixture = try Fixture()
        let path = "\(fixture.path)/lock"
        do {
            let held = try #require(try BuildLock.acquire(path, onWait: { false })).lock
            // The child leaves a grandchild behind, as a killed builder leaves its recipe.
            let script = "sleep 0.6 & exit 0"
            _ = try ChildProcess(command: ["sh", "-c", script], log: "\(fixture.path)/log", lock: held).run()
        }
        #expect(try BuildLock.acquire(path, onWait: { false }) == nil)
        let acquired = try #require(try BuildLock.acquire(path, onWait: { true }))
        #expect(acquired.waited)
    }

    /// A file system of 4 MiB fills up under the recipe, and under Aurora's own writes.
    @Test(
        .enabled(if: getuid() == 0, "mounting a small tmpfs needs root"),
        arguments: [
            "head -c 16777216 /dev/zero > \"$1/root.ext4\"",
            // A manifest of a thousand packages is longer than what removing the recipe's own lists gives back.
            Fixture.goodImage
                + "seq 1000 | sed 's/.*/p& 1/' > \"$1/packages\"\nhead -c 16777216 /dev/zero > \"$1/fill\" 2>/dev/null || true",
        ])
    func fullDisk(script: String) throws {
        let fixture = try Fixture()
        let log = "\(fixture.path).log"
        let mounted = try ChildProcess(
            command: ["mount", "-t", "tmpfs", "-o", "size=4m", "aurora-test", fixture.path], log: log
        ).run()
        defer { try? Files.removeTree(log) }
        guard mounted == .exited(0) else {
            print("SKIPPED fullDisk: this host does not let root mount a tmpfs")
            return
        }
        defer { _ = try? ChildProcess(command: ["umount", fixture.path], log: log).run() }
        #expect { try fixture.images(script).ensureBase(progress: silent) } throws: {
            guard case ImageError.diskFull("image base", _) = $0 else { return false }
            return "\($0)".contains("no space left")
        }
        #expect(try fixture.names("images").isEmpty)
        #expect(throws: Never.self) { try fixture.images().ensureBase(progress: silent) }
    }
}

/// Counts the builders that had to wait.
private final class Waits: Sendable {
    let count = Atomic<Int>(0)
    func note(_ event: BuildEvent) {
        if case .step(let step) = event, step.hasPrefix("waiting") { count.add(1, ordering: .relaxed) }
    }
}

/// Runs blocking work on a thread of its own, so that waiting for a lock cannot starve the test's other tasks.
func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        do {
            try DetachedThread.start("images-test") { continuation.resume(with: Result { try body() }) }
        } catch { continuation.resume(throwing: error) }
    }
}
