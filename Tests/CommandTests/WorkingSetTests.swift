import Foundation
import Groups
import Testing

@testable import aurora

/// The list of what a restore fetches ahead.
struct WorkingSetTests {
    private static func withFile(_ body: (WorkingSetFile, _ path: String) throws -> Void) throws {
        let home = NSTemporaryDirectory() + "aurora-working-set-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: home) }
        try body(WorkingSetFile(of: "group/g", in: DataDirectory(path: home, runtimePath: home)), "\(home)/working-sets/group g")
    }

    @Test func whatIsWrittenIsRead() throws {
        try Self.withFile { file, path in
            #expect(file.read() == [])
            try file.write([7, 0, .max, 65536])
            #expect(file.read() == [7, 0, .max, 65536])
            try file.write(Array(0..<10_000))
            #expect(file.read() == Array(0..<UInt32(WorkingSetFile.pagesMax)))
            let directory = URL(filePath: path).deletingLastPathComponent().path
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["group g"])
            file.remove()
            #expect(file.read() == [])
        }
    }

    @Test func whatIsMalformedIsNothing() throws {
        try Self.withFile { file, path in
            try file.write([1, 2])
            let whole = try Data(contentsOf: URL(filePath: path))
            for count in 0..<whole.count {
                try whole.prefix(count).write(to: URL(filePath: path))
                #expect(file.read() == (count < 12 ? [] : [1]), "\(count) bytes")
            }
            try Data(repeating: 1, count: 100).write(to: URL(filePath: path))
            #expect(file.read() == [])
        }
    }

    @Test func theSetGrowsUntilItIsFull() {
        #expect(WorkingSetFile.merge([], touched: [3, 1, 3]) == [3, 1])
        #expect(WorkingSetFile.merge([3, 1], touched: [1, 9]) == [3, 1, 9])
        // Then what nobody may touch any more makes room for what somebody does.
        let full = Array(0..<UInt32(WorkingSetFile.pagesMax))
        #expect(WorkingSetFile.merge(full, touched: [5]) == full)
        let merged = WorkingSetFile.merge(full, touched: [10_000, 5])
        #expect(merged == [10_000] + full.dropLast())
    }
}
