import Foundation
import Synchronization
import Testing

@testable import Groups

@Suite struct StatusFileTests {
    let home: TemporaryDirectory
    let directory: GroupDirectory

    init() throws {
        home = try TemporaryDirectory()
        directory = GroupDirectory(name: try GroupName("g"), in: home.data)
        try DataDirectory.create(directory.path)
    }

    private final class Shared: Sendable {
        private let value: Mutex<GroupStatus>
        init(_ value: GroupStatus) { self.value = Mutex(value) }
        func withLock<Value: Sendable>(_ body: (inout sending GroupStatus) -> sending Value) -> Value { value.withLock(body) }
    }

    private final class Seen: Sendable {
        let running: Atomic<Int>
        let failures = Atomic<Int>(0)
        let stale = Atomic<Int>(0)
        init(running: Int) { self.running = Atomic(running) }
    }

    /// Many writers and a reader: no read is empty or torn, what is read only gets newer, and what was saved is there.
    @Test func manyWritersLeaveAWholeFileAtAnyTime() throws {
        let file = StatusFile(directory)
        let status = Shared(GroupStatus(state: .running))
        let (writers, rounds) = (8, 150)
        try file.save { status.withLock { $0 } }
        let seen = Seen(running: writers)
        let directory = directory
        let done = DispatchGroup()
        for _ in 0..<writers {
            done.enter()
            Thread.detachNewThread {
                for _ in 0..<rounds {
                    let mine = status.withLock { status in
                        status.exitCode = (status.exitCode ?? 0) + 1
                        return status.exitCode ?? 0
                    }
                    do {
                        try file.save { status.withLock { $0 } }
                        if try directory.savedCode < mine { seen.stale.add(1, ordering: .relaxed) }
                    } catch { seen.failures.add(1, ordering: .relaxed) }
                }
                seen.running.subtract(1, ordering: .releasing)
                done.leave()
            }
        }
        var last: Int32 = 0
        while seen.running.load(ordering: .acquiring) > 0 {
            guard let read = try? directory.savedCode else {
                seen.failures.add(1, ordering: .relaxed)
                continue
            }
            if read < last { seen.stale.add(1, ordering: .relaxed) }
            last = read
        }
        done.wait()
        #expect(seen.failures.load(ordering: .relaxed) == 0)
        #expect(seen.stale.load(ordering: .relaxed) == 0)
        #expect(try StateFile.read(GroupStatus.self, from: directory.statusPath, remedy: "").exitCode == Int32(writers * rounds))
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["status.json"])
    }

    @Test func leftoversOfKilledWritersGo() throws {
        try Data("{".utf8).write(to: URL(filePath: "\(directory.statusPath).4711-3.new"))
        try Data("{".utf8).write(to: URL(filePath: "\(directory.statusPath).new"))
        try Data("kept".utf8).write(to: URL(filePath: "\(directory.path)/config.json"))
        let file = StatusFile(directory)
        try file.save { GroupStatus(state: .exited) }
        #expect(Set(try FileManager.default.contentsOfDirectory(atPath: directory.path)) == ["config.json", "status.json"])
    }

    @Test func whatReadWouldRefuseIsNotWritten() throws {
        var status = GroupStatus(state: .exited)
        try directory.write(status)
        status.error = String(repeating: "x", count: StateFile.bytesMax)
        #expect(throws: GroupError.self) { try directory.write(status) }
        #expect(try directory.status().error == nil)
    }
}

extension GroupDirectory {
    fileprivate var savedCode: Int32 {
        get throws { try StateFile.read(GroupStatus.self, from: statusPath, remedy: "").exitCode ?? 0 }
    }
}
