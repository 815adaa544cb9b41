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

    @Test(arguments: [
        "", "{", "[]", "{\"version\":1}", "{\"version\":99,\"state\":\"running\",\"warnings\":[],\"hasNetwork\":false,\"ports\":[]}",
    ])
    func damagedStatusIsAnError(_ text: String) throws {
        try makeAbandoned(GroupStatus(state: .exited))
        let directory = try store.find(try GroupName("g"))
        try Data(text.utf8).write(to: URL(filePath: directory.statusPath))
        let error = #expect(throws: GroupError.self) { try directory.status() }
        #expect(error?.kind == .badState)
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
