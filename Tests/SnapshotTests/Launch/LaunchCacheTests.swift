import CLinux
import Foundation
import Linux
import Testing

@testable import Snapshot

/// What is removed from a directory of launch images, and what must stay.
struct LaunchCacheTests {
    private let path = FileManager.default.temporaryDirectory.appending(path: "aurora-launch-\(UUID().uuidString)").path
    private let cache: LaunchCache

    init() throws { cache = try LaunchCache(path: path) }

    private func make(_ names: String...) throws {
        for name in names { try FileManager.default.createDirectory(atPath: "\(path)/\(name)", withIntermediateDirectories: false) }
    }

    private var names: Set<String> {
        get throws { Set(try FileManager.default.contentsOfDirectory(atPath: path)).subtracting([".lock"]) }
    }

    @Test func onlyWhatIsOfNoUseIsRemoved() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        try make("a", "b", ".old-c-1-1", ".new-d-1-1")
        let removed = try cache.removeUnused { () throws in
            // What comes while it is asked what to keep is not touched.
            try make("e", ".new-f-1-1")
            return ["a"]
        }
        #expect(removed == ["b"])
        #expect(try names == ["a", "e", ".new-f-1-1"])
    }

    @Test func nothingIsRemovedWhenNobodyKnows() throws {
        struct Unknown: Error {}
        defer { try? FileManager.default.removeItem(atPath: path) }
        try make("a", ".new-d-1-1")
        #expect(throws: Unknown.self) { try cache.removeUnused { () throws in throw Unknown() } }
        #expect(try names == ["a", ".new-d-1-1"])
    }

    /// What was used longest ago goes first, what is in use never, and no more than has to.
    @Test func theCacheIsKeptWithinItsBound() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        try make("a", "b", "c", "d", ".new-e-1-1")
        for name in ["a", "b", "c", "d", ".new-e-1-1"] {
            try Data(repeating: 1, count: 100_000).write(to: URL(filePath: "\(path)/\(name)/memory"))
        }
        for (index, name) in ["c", "a", "d", "b"].enumerated() { cache.noteUse(name, at: 1_700_000_000_000_000_000 + Int64(index)) }
        let entries = cache.entries
        #expect(entries.map(\.digest) == ["c", "a", "d", "b"])
        #expect(entries.allSatisfy { (100_000..<120_000).contains($0.bytes) })
        let total = entries.reduce(0) { $0 + $1.bytes }
        func all(_ digest: String, _ remove: () -> Void) -> Bool {
            remove()
            return true
        }
        #expect(cache.trim(to: total, all).removed.isEmpty)

        cache.noteUse("c")
        var asked: [String] = []
        let (kept, removed) = cache.trim(to: 2 * total / 4) { digest, remove in
            asked.append(digest)
            if digest != "a" { remove() }
            return digest != "a"
        }
        #expect(asked == ["a", "d", "b"] && removed == ["d", "b"] && kept.map(\.digest) == ["a", "c"])
        #expect(try names == ["a", "c", ".new-e-1-1"])
        // All that is left is in use: more than the bound stays.
        let left = cache.trim(to: 0) { _, _ in false }.kept.map(\.digest)
        #expect(left == ["a", "c"])
        cache.noteUse("gone")
        #expect(try names == ["a", "c", ".new-e-1-1"])
    }

    @Test func whatIsBeingBuiltStays() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        try make("a", ".new-d-1-1")
        let building = try cache.builders(LOCK_SH)
        #expect(cache.removeUnused { [] } == ["a"])
        #expect(try names == [".new-d-1-1"])
        _ = building.rawValue
        try #require(clinux_flock(building.rawValue, LOCK_UN) == 0)
        #expect(cache.removeUnused { [] }.isEmpty)
        #expect(try names.isEmpty)
    }
}
