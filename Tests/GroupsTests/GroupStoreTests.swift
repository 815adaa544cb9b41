import Foundation
import Groups
import Testing

@Suite struct GroupStoreTests {
    let home: TemporaryDirectory
    let store: GroupStore

    init() throws {
        home = try TemporaryDirectory()
        store = GroupStore(home.data)
    }

    private func configuration(_ name: String = "g") throws -> GroupConfiguration {
        GroupConfiguration(name: try GroupName(name), image: "base", memoryBytes: 64 << 20, command: ["true"])
    }

    @Test func createdGroupIsFoundAndLocked() throws {
        var wanted = try configuration()
        wanted.ports = [try PortMapping(parsing: "1:2")]
        let created = try store.create(wanted)
        let found = try store.find(wanted.name)
        #expect(try found.configuration() == wanted)
        #expect(try found.isLive())
        #expect(try found.status().state == .created)
        #expect(created.lock.rawValue >= 0)
        #expect(try store.list().map(\.name.text) == ["g"])
    }

    /// What would be refused when it is read, or asked of the guest, is refused before anything is made.
    @Test(arguments: [[String](repeating: String(repeating: "x", count: 1000), count: 1800), [String(repeating: "x", count: 131_072)]])
    func longCommandsAreRefusedBeforeAnythingIsMade(_ command: [String]) throws {
        var wanted = try configuration()
        wanted.command += command
        let error = #expect(throws: GroupError.self) { try self.make(wanted) }
        #expect(error?.kind == .invalidValue)
        #expect(error?.message.contains("at most") == true)
        #expect((try? FileManager.default.contentsOfDirectory(atPath: home.data.groupsPath)) ?? [] == [])
        // Just below the limits all is well.
        wanted.command = [String](repeating: String(repeating: "x", count: 1000), count: 800) + [String(repeating: "x", count: 100_000)]
        try make(wanted)
        #expect(try store.find(wanted.name).configuration() == wanted)
    }

    private func make(_ wanted: GroupConfiguration) throws { _ = try store.create(wanted).lock.rawValue }

    @Test func nameIsTakenOnce() throws {
        let first = try store.create(try configuration())
        #expect(throws: GroupError.self) { try self.createAgain() }
        #expect(first.lock.rawValue >= 0)
        // Nothing is left of the refused attempt.
        #expect(try FileManager.default.contentsOfDirectory(atPath: home.data.groupsPath) == ["g"])
    }

    private func createAgain() throws { _ = try store.create(try configuration()).lock.rawValue }

    @Test func killedVMMIsFoundOut() throws {
        var status = GroupStatus(state: .running)
        status.processID = 12345
        try makeAbandoned(status)
        let directory = try store.find(try GroupName("g"))
        try DataDirectory.create(directory.runtimePath)
        try Data().write(to: URL(filePath: directory.controlSocketPath))
        let found = try directory.status()
        #expect(found.state == .dead)
        #expect(found.error?.contains("12345") == true)
        #expect(!FileManager.default.fileExists(atPath: directory.runtimePath))
        // It is written down, not only computed.
        #expect(try String(contentsOfFile: directory.statusPath, encoding: .utf8).contains("\"dead\""))
    }

    @Test func endedGroupKeepsItsStatus() throws {
        var status = GroupStatus(state: .exited)
        status.exitCode = 7
        try makeAbandoned(status)
        #expect(try store.find(try GroupName("g")).status() == status)
    }

    /// Makes a group and lets go of its lock, as a process that is killed does.
    private func makeAbandoned(_ status: GroupStatus) throws {
        let created = try store.create(try configuration())
        try created.directory.write(status)
        _ = created.lock.rawValue
    }

    @Test func runningGroupIsNotRemoved() throws {
        let created = try store.create(try configuration())
        #expect(throws: GroupError.self) { try store.remove(try GroupName("g")) }
        #expect(created.lock.rawValue >= 0)
        #expect(try store.list().count == 1)
    }

    @Test func endedGroupIsRemovedWithoutTrace() throws {
        try makeAbandoned(GroupStatus(state: .exited))
        try store.remove(try GroupName("g"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: home.data.groupsPath).isEmpty)
        #expect(throws: GroupError.self) { try store.find(try GroupName("g")) }
    }

    private static let damaged = ["", "{", "[]", "{\"version\":1}", String(repeating: " ", count: 1_100_000)]

    @Test(arguments: damaged)
    func damagedStatusOfADeadGroupIsRepaired(_ text: String) throws {
        try makeAbandoned(GroupStatus(state: .running))
        let directory = try store.find(try GroupName("g"))
        try Data(text.utf8).write(to: URL(filePath: directory.statusPath))
        let found = try directory.status()
        #expect(found.state == .dead)
        #expect(found.error?.contains("damaged") == true)
        #expect(!(found.error ?? "").contains("rm --force"))
        #expect(try Data(contentsOf: URL(filePath: directory.statusPath)).count > 10)
        #expect(try directory.status() == found)
    }

    @Test(arguments: damaged)
    func damagedStatusOfALivingGroupIsUnknown(_ text: String) throws {
        let created = try store.create(try configuration())
        created.lock.noteHolder()
        try Data(text.utf8).write(to: URL(filePath: created.directory.statusPath))
        let found = try created.directory.status()
        #expect(found.state == .unknown)
        #expect(found.isLive)
        #expect(found.processID == getpid())
        #expect(created.lock.rawValue >= 0)
    }

    @Test func statusOfANewerVersionIsAnError() throws {
        try makeAbandoned(GroupStatus(state: .exited))
        let directory = try store.find(try GroupName("g"))
        let text = "{\"version\":99,\"state\":\"running\",\"warnings\":[],\"hasNetwork\":false,\"ports\":[]}"
        try Data(text.utf8).write(to: URL(filePath: directory.statusPath))
        #expect(throws: GroupError.self) { try directory.status() }
    }

    @Test func lockNamesItsHolderWhileItIsHeld() throws {
        let path = "\(home.path)/lock"
        let first = try take(path, notes: true)
        #expect(GroupLock.holder(path) == getpid())
        close(first)
        #expect(GroupLock.holder(path) == nil)
        // The next holder, who has not said who it is, is not taken for the last one.
        let second = try take(path, notes: false)
        #expect(try GroupLock.isHeld(path))
        #expect(GroupLock.holder(path) == nil)
        close(second)
    }

    /// A second descriptor of a held lock, which keeps it held.
    private func take(_ path: String, notes: Bool) throws -> Int32 {
        guard let lock = try GroupLock.take(path) else { throw CancellationError() }
        if notes { lock.noteHolder() }
        return dup(lock.rawValue)
    }

    @Test func groupThatCannotBeLookedForIsNotMissing() throws {
        let file = "\(home.path)/data"
        try FileManager.default.createDirectory(atPath: file, withIntermediateDirectories: true)
        // A loop of links cannot be passed, whoever asks.
        try FileManager.default.createSymbolicLink(atPath: "\(file)/groups", withDestinationPath: "groups")
        let error = #expect(throws: GroupError.self) { try store.find(try GroupName("g")) }
        #expect(error?.kind == .host)
    }

    @Test func generatedNamesAvoidEachOther() throws {
        var names: Set<String> = []
        for _ in 0..<50 { names.insert(try self.createGenerated()) }
        #expect(names.count == 50)
    }

    private func createGenerated() throws -> String {
        try store.createWithGeneratedName(try configuration()).directory.name.text
    }
}
