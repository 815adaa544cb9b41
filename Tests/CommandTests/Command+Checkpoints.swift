import AuroraVMM
import CLinux
import Foundation
import Groups
import Snapshot
import Testing

@testable import Store

/// What tests of checkpoints do with the command, and behind its back with its store.
extension Command {
    struct Checkpoint: Decodable {
        let number: UInt64
        let name: String?
        let time: String
        let isDurable: Bool
    }

    var storePath: String { "\(home)/store" }

    func history(_ name: String) throws -> [Checkpoint] {
        try JSONDecoder().decode([Checkpoint].self, from: Data(try run("history", "--format", "json", "-n", "0", name).output.utf8))
    }

    func waitFor(_ what: String, seconds: Int = 300, _ condition: () throws -> Bool) throws {
        for _ in 0..<seconds * 20 {
            if try condition() { return }
            usleep(50_000)
        }
        Issue.record("not within \(seconds) s: \(what)")
    }

    /// Waits until a process has ended, whether or not somebody has asked how.
    func waitForEnd(of process: Int32, seconds: Int = 60) throws {
        try waitFor("the end of process \(process)", seconds: seconds) {
            guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return true }
            return text.split(separator: ")").last?.split(separator: " ").first == "Z"
        }
    }

    func killVMM(_ name: String) throws {
        let process = try #require(try state(name).process)
        #expect(kill(process, SIGKILL) == 0)
        try waitFor("the death of \(name)") { try state(name).state == "dead" }
    }

    private struct Ending: Decodable {
        let error: String?
        let exitCode: Int32?
    }

    private func ending(_ name: String) throws -> Ending {
        try JSONDecoder().decode(Ending.self, from: try Data(contentsOf: URL(filePath: "\(home)/groups/\(name)/status.json")))
    }

    /// Why a group failed, as its status says.
    func failure(_ name: String) throws -> String { try ending(name).error ?? "" }

    /// How its program ended.
    func exitCode(_ name: String) throws -> Int32? { try ending(name).exitCode }

    /// The store, opened by this process beside the command's own.
    func openStore() throws -> Store {
        let disk = try FileDisk.open(storePath)
        return try Store.open(disk, memory: .directory("\(runtime)/.store"))
    }

    /// Adds a checkpoint to a dead group's history that differs from the last in its state alone.
    ///
    /// - Returns: its number.
    func addCheckpoint(_ group: String, name: String, _ edit: ([UInt8]) throws -> [UInt8]) throws -> UInt64 {
        let store = try openStore()
        let last = try store.checkpoint(stream: "group/\(group)", .latest)
        let state = try edit(try last.state())
        let writer = try store.writer(for: "group/\(group)")
        let number = writer.lastNumber + 1
        try writer.begin(number)
        let failure: StoreError? = state.withUnsafeBytes { bytes in
            do throws(StoreError) {
                try writer.close(state: bytes, name: name, time: last.time + 1, statistics: last.statistics)
                return nil
            } catch { return error }
        }
        if let failure { throw failure }
        try writer.finish()
        return number
    }
}
