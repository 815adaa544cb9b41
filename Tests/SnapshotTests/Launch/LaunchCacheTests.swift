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
