import AuroraVMM
import CLinux
import Foundation
import Groups
import Linux
import Snapshot
import Testing

@testable import Store

/// Restores of what is damaged, foreign or too large, by the real command on real checkpoints.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct RestoreFaultTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    /// A program that keeps memory it does not touch: a file in memory, every page of it told by its number.
    private static let keeper = [
        "sh", "-c",
        "seq -f 'AURORA-KEPT-PAGE %08.0f' 1 200000 > /dev/shm/kept; sha256sum < /dev/shm/kept; while :; do sleep 0.1; done",
    ]

    private func start(_ name: String, _ options: [String] = []) throws -> String {
        #expect(try aurora.run(["persist", "-d", "--name", name] + options + ["--"] + Self.keeper).output == "\(name)\n")
        try aurora.waitFor("its sum") { try !aurora.run("logs", name).output.isEmpty }
        return try aurora.run("logs", name).output
    }

    /// Pages that a restored machine has not touched are there after its history was thinned and the store collected.
    @Test func untouchedPagesOutliveThinningAndCollection() throws {
        let sum = try start("u", ["--period", "5ms", "--history", "4"])
        #expect(try aurora.run("checkpoint", "u").code == 0)
        try aurora.killVMM("u")
        #expect(try aurora.run("restore", "u").code == 0)
        let origin = try #require(try aurora.openStore().history("group/u").last?.number)
        for _ in 0..<3 {
            try aurora.waitFor("thinning") { try aurora.openStore().history("group/u").contains { $0.number > origin + 150 } }
            let collected = try aurora.run("gc")
            #expect(collected.code == 0, "\(collected.error)")
        }
        let kept = try aurora.openStore().history("group/u").count
        #expect(kept < 120, "\(kept) checkpoints were not thinned")
        #expect(try aurora.run("exec", "u", "--", "sh", "-c", "sha256sum < /dev/shm/kept").output == sum)
        #expect(try aurora.run("store", "scrub").code == 0)
    }

    /// States of other versions and of other processors are refused with the reason, and harm nothing.
    @Test func foreignStatesAreRefused() throws {
        let sum = try start("f", ["--period", "off"])
        #expect(try aurora.run("checkpoint", "f", "good").code == 0)
        try aurora.killVMM("f")
        let store = try aurora.openStore()
        let good = try store.checkpoint(stream: "group/f", .name("good")).state()
        let envelope = try CheckpointEnvelope(good, of: "it")
        let description = Array(good[16..<(good.count - envelope.machine.count)])
        func machine(_ edit: (inout MachineState) -> Void) throws -> [UInt8] {
            var state = try MachineState(encoded: Array(envelope.machine))
            edit(&state)
            return CheckpointEnvelope.encode(context: description, machine: try state.encoded())
        }
        func patched(_ offset: Int, _ value: UInt8, in bytes: [UInt8]) -> [UInt8] {
            var bytes = bytes
            bytes[offset] = value
            return bytes
        }
        func framed(_ edit: ([UInt8]) -> [UInt8]) -> [UInt8] {
            CheckpointEnvelope.encode(context: description, machine: edit(Array(envelope.machine)))
        }
        func described(_ old: String, _ new: String) -> [UInt8] {
            let text = String(decoding: description, as: UTF8.self)
            #expect(text.contains(old), "\(text)")
            return CheckpointEnvelope.encode(context: Array(text.replacing(old, with: new).utf8), machine: envelope.machine)
        }
        let cases: [(name: String, state: [UInt8], messages: [String])] = [
            ("newer-envelope", patched(8, 2, in: good), ["has state format 2, this program knows 1", "Use a newer version of aurora"]),
            ("older-envelope", patched(8, 0, in: good), ["has state format 0, this program knows 1", "Use the version that made it"]),
            ("no-envelope", patched(0, 0x61, in: good), ["is not a checkpoint of a group"]),
            ("huge-description", patched(15, 0x7f, in: good), ["damaged: its description would have"]),
            ("newer-description", described("\n  \"version\" : 1", "\n  \"version\" : 9"), ["version 9"]),
            ("newer-machine", framed { patched(8, 2, in: $0) }, ["was written in format 2, this program reads format 1"]),
            ("older-machine", framed { patched(8, 0, in: $0) }, ["was written in format 0, this program reads format 1"]),
            ("cut-machine", framed { Array($0.dropLast(1000)) }, ["truncated"]),
            ("no-machine", framed { _ in [] }, ["does not begin like the state of a machine"]),
            // No processor has it: moreA, eax of leaf 7, subleaf 1.
            ("processor", try machine { $0.features.words[5] |= 1 << 31 }, ["CPUID 0x7.1 eax bit 31"]),
            ("huge-memory", try machine { $0.memory[0].count = 1 << 45 }, ["memory"]),
        ]
        for (name, state, messages) in cases {
            let number = try aurora.addCheckpoint("f", name: name) { _ in state }
            for arguments in [["restore", "f"], ["restore", "f", "--at", "\(number)"], ["restore", "f", "--at", name, "--as", "g"]] {
                let result = try aurora.run(arguments)
                #expect(result.code == 125, "\(name): \(result.output)\(result.error)")
                for message in messages { #expect(result.error.contains(message), "\(name): \(result.error)") }
                #expect(result.error.hasPrefix("error: "), "\(name): \(result.error)")
            }
            #expect(try !aurora.run("ps", "-aq").output.contains("g"), "\(name) left a group behind")
        }
        // The checkpoint before them is as good as ever.
        let result = try aurora.run("restore", "f", "--at", "good")
        #expect(result.code == 0, "\(result.error)")
        #expect(try aurora.run("exec", "f", "--", "sh", "-c", "sha256sum < /dev/shm/kept").output == sum)
        // Nor does a rollback to one of them change the running group.
        for (name, _, messages) in cases where name != "huge-memory" {
            let result = try aurora.run("rollback", "f", "--to", name)
            #expect(result.code == 1, "\(name): \(result.error)")
            for message in messages { #expect(result.error.contains(message), "\(name): \(result.error)") }
            #expect(try aurora.run("exec", "f", "--", "sh", "-c", "sha256sum < /dev/shm/kept").output == sum, "\(name)")
        }
    }

    /// A store of another format is refused by every command, naming both versions.
    @Test func foreignStoresAreRefused() throws {
        _ = try start("s", ["--period", "off"])
        #expect(try aurora.run("checkpoint", "s").code == 0)
        try aurora.killVMM("s")
        for version in [0, 2] as [UInt16] {
            try rewriteSuperblocks { $0.replaceSubrange(8..<10, with: [UInt8(version), 0]) }
            for arguments in [["restore", "s"], ["history", "s"], ["gc"], ["store", "stat"], ["persist", "--", "true"]] {
                let result = try aurora.run(arguments)
                #expect(result.code != 0, "\(arguments)")
                #expect(result.error.contains("its version is \(version), this program reads 1"), "\(arguments): \(result.error)")
            }
            try rewriteSuperblocks { $0.replaceSubrange(8..<10, with: [1, 0]) }
        }
        #expect(try aurora.run("restore", "s").code == 0)
    }

    /// A page that nobody has touched, found by what is in it, and the root of the checkpoint's first table.
    private func places(in group: String) throws -> (page: UInt64, table: UInt64) {
        let reader = try aurora.openStore().checkpoint(stream: "group/\(group)", .name("good"))
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.blockBytes, alignment: 64)
        defer { buffer.deallocate() }
        let marked = try reader.pages(inMap: 0).reversed().first { page in
            try reader.read(page, into: buffer)
            return String(decoding: buffer.prefix(200), as: UTF8.self).contains("AURORA-KEPT-PAGE")
        }
        return (try #require(marked).location.offset, try #require(reader.block.chain.first).root.location.offset)
    }

    private func flip(at offset: UInt64) throws {
        let file = try #require(FileHandle(forUpdatingAtPath: aurora.storePath))
        try file.seek(toOffset: offset)
        let byte = try #require(try file.read(upToCount: 1)?.first)
        try file.seek(toOffset: offset)
        try file.write(contentsOf: Data([byte ^ 0x10]))
        try file.close()
    }

    /// A damaged page is named by a scrub and never given to a program: the machine that needs it ends and says why.
    ///
    /// A damaged table is refused at once. Other groups are not harmed, and what is mended is as good as ever.
    @Test func damagedPagesAndTablesAreNamed() throws {
        #expect(try aurora.run(["persist", "-d", "--name", "other", "--"] + PersistTests.counter).code == 0)
        let sum = try start("d", ["--period", "off"])
        for name in ["d", "other"] { #expect(try aurora.run("checkpoint", name, "good").code == 0) }
        try aurora.killVMM("other")
        // Ended in order: after a crash the newest checkpoint, damaged, could not be told from one that was never wholly written.
        #expect(try aurora.run("stop", "-t", "0", "d").code == 0)
        let (page, table) = try places(in: "d")

        try flip(at: page)
        let scrubbed = try aurora.run("store", "scrub")
        let isNamed = scrubbed.output.contains(#/Damaged page [0-9]+ of memory of group/d, checkpoint [0-9]+/#)
        #expect(scrubbed.code != 0 && isNamed, "\(scrubbed.output)")
        if try aurora.run("restore", "d", "--at", "good").code == 0 {
            let read = try aurora.run("exec", "d", "--", "sh", "-c", "sha256sum < /dev/shm/kept")
            #expect(read.code != 0 && !read.output.contains(sum), "\(read.output)")
            try aurora.waitFor("the end of d") { try aurora.state("d").state != "running" }
            let reason = try aurora.failure("d")
            #expect(reason.contains("Damaged page of group/d"), "\(reason)")
        }
        #expect(try aurora.run("restore", "other").code == 0)
        try flip(at: page)

        try flip(at: table)
        let verified = try aurora.run("store", "verify")
        #expect(verified.code != 0 && verified.output.contains("group/d"), "\(verified.output)")
        let refused = try aurora.run("restore", "d", "--at", "good")
        #expect(refused.code == 125 && refused.error.contains("amaged"), "\(refused.error)")
        #expect(try aurora.state("other").state == "running")
        try flip(at: table)
        #expect(try aurora.run("restore", "d", "--at", "good").code == 0)
        #expect(try aurora.run("exec", "d", "--", "sh", "-c", "sha256sum < /dev/shm/kept").output == sum)
    }

    /// A checkpoint needs no other: where those it was made upon are missing it is restored all the same, and what is missing is named.
    @Test func checkpointsOutliveThoseTheyWereMadeUpon() throws {
        let sum = try start("p", ["--period", "off"])
        for name in ["first", "second"] { #expect(try aurora.run("checkpoint", "p", name).code == 0) }
        try aurora.killVMM("p")
        #expect(try aurora.run("restore", "p", "--at", "second", "--as", "child").code == 0)
        #expect(try aurora.run("checkpoint", "child", "own").code == 0)
        try aurora.killVMM("child")
        let first = try #require(try aurora.history("p").first { $0.name == "first" }).number
        do {
            let store = try aurora.openStore()
            let writer = try store.writer(for: "group/p")
            try writer.drop([first], force: true)
            try writer.finish()
            try store.collect()
        }
        for (choice, wanted) in [("first", "named first"), ("\(first)", "\(first)")] {
            let result = try aurora.run("restore", "p", "--at", choice)
            #expect(result.code == 125 && result.error.contains("group/p has no checkpoint"), "\(choice): \(result.error)")
            #expect(result.error.contains(wanted), "\(result.error)")
        }
        let left = try aurora.history("p")
        #expect(left.contains { $0.name == "second" } && !left.contains { $0.number == first })
        #expect(try aurora.run("store", "verify").code == 0)

        // Now all of the history that the child goes on from.
        #expect(try aurora.run("rm", "--force", "p").code == 0)
        #expect(try aurora.run("gc").code == 0)
        let restored = try aurora.run("restore", "p")
        #expect(restored.code == 125 && restored.error.contains("There is no group named p"), "\(restored.error)")
        let listed = try aurora.run("history", "p")
        #expect(listed.code != 0 && listed.error.contains("There is no stream group/p in the store"), "\(listed.error)")
        #expect(try aurora.history("child").contains { $0.name == "own" })
        let verified = try aurora.run("store", "verify")
        #expect(verified.code == 0 && verified.output.contains(" 0 findings"), "\(verified.output)")
        #expect(try aurora.run("restore", "child").code == 0)
        #expect(try aurora.run("exec", "child", "--", "sh", "-c", "sha256sum < /dev/shm/kept").output == sum)
        #expect(try aurora.run("store", "scrub").code == 0)
    }

    /// Where there is no room for a group's memory the restore says so and leaves nothing behind; a store in use is not made anew.
    @Test func noRoomForTheMemoryAndAStoreInUse() throws {
        let sum = try start("big", ["--period", "off", "--memory", "2G"])
        #expect(try aurora.run("checkpoint", "big").code == 0)
        let inUse = try aurora.run("store", "init", "--force", "--store", aurora.storePath)
        #expect(inUse.code != 0 && inUse.error.contains("use the store that is there"), "\(inUse.error)")
        try aurora.killVMM("big")
        let limited = ["/usr/bin/prlimit", "--as=1500000000"]
        for arguments in [["restore", "big"], ["restore", "big", "--as", "new"]] {
            let result = try aurora.run(arguments, launcher: limited)
            #expect(result.code == 125 && result.error.contains("Cannot allocate memory"), "\(result.error)")
            #expect(try !aurora.run("ps", "-aq").output.contains("new"))
        }
        #expect(try aurora.run("restore", "big").code == 0)
        #expect(try aurora.run("exec", "big", "--", "sh", "-c", "sha256sum < /dev/shm/kept").output == sum)
    }

    /// Changes both copies of the superblock, and makes their checksums right.
    private func rewriteSuperblocks(_ edit: (inout [UInt8]) -> Void) throws {
        let file = try #require(FileHandle(forUpdatingAtPath: aurora.storePath))
        for place in StoreLayout.superblockOffsets {
            try file.seek(toOffset: place)
            var bytes = [UInt8](try #require(try file.read(upToCount: StoreFormat.sectorBytes)))
            edit(&bytes)
            var writer = ByteWriter()
            for byte in bytes[..<(StoreFormat.sectorBytes - 16)] { writer.put(byte) }
            let sealed = Sector.seal(writer, seed: Sector.seed(.superblock, StoreIdentity(low: 0, high: 0), at: place))
            try file.seek(toOffset: place)
            try file.write(contentsOf: Data(sealed))
        }
        try file.close()
    }

    /// A checkpoint with a damaged page is refused as a target when the page is met, in the midst of the change: the group goes on as it
    /// was.
    @Test func aRollbackToADamagedTargetLeavesTheGroupAsItWas() throws {
        let program = ["sh", "-c", "i=0; while :; do i=$((i+1)); head -c 200000 /dev/urandom > /dev/shm/new; echo $i; sleep 0.05; done"]
        #expect(try aurora.run(["persist", "-d", "--name", "g", "--period", "off", "--"] + program).code == 0)
        func numbers() throws -> [Int] { try aurora.run("logs", "g").output.split(separator: "\n").compactMap { Int($0) } }
        func goOn(_ what: String) throws {
            let before = try #require(try numbers().last)
            try aurora.waitFor(what) { try numbers().last ?? 0 > before + 5 }
        }
        for name in ["a", "b"] {
            try aurora.waitFor("numbers") { try numbers().count > 5 }
            #expect(try aurora.run("checkpoint", "g", name).code == 0)
            try goOn("the program between checkpoints")
        }
        let store = try aurora.openStore()
        let (a, b) = (
            try store.checkpoint(stream: "group/g", .name("a")), try store.checkpoint(stream: "group/g", .name("b"))
        )
        let places = try a.differences(from: b).filter { $0.map == 0 }.compactMap { try a.locate($0)?.entry.location }
        try #require(places.count > 10)
        let place = places[places.count / 2]
        let file = try #require(FileHandle(forUpdatingAtPath: aurora.storePath))
        try file.seek(toOffset: place.offset)
        try file.write(contentsOf: Data(repeating: 0x55, count: place.length))
        try file.close()
        let refused = try aurora.run("rollback", "g", "--to", "a")
        #expect(refused.code == 1 && refused.error.contains("The group goes on where it was"), "\(refused.error)")
        #expect(try aurora.state("g").state == "running")
        try goOn("the program after the refusal")
        let (before, named) = (try #require(try numbers().last), try aurora.run("checkpoint", "g", "c"))
        #expect(named.code == 0, "\(named.error)")
        let back = try aurora.run("rollback", "g", "--to", "b")
        #expect(back.code == 0, "\(back.error)")
        try aurora.waitFor("an earlier number") { try numbers().last ?? .max < before }
        try goOn("the program after the rollback")
    }
}
