import AuroraVMM
import CLinux
import Foundation
import Groups
import Linux
import Snapshot
import Synchronization
import Testing

@testable import Functions

/// Instances restored from launch images in machines of the pool: what differs between clones, and what faults leave behind.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct LaunchTests {
    let aurora: Command
    private var launchPath: String { "\(aurora.home)/launch" }

    init() throws {
        aurora = try Command()
        // A runtime that prints for ever, and a function made from it that differs in memory and on the disk.
        let loop = ["sh", "-c", "while :; do echo x; sleep 0.05; done > /dev/hvc0"]
        _ = try aurora.run(["persist", "-d", "--name", "rt", "--memory", "128M", "--period", "off", "--"] + loop)
        #expect(try aurora.run("checkpoint", "rt").code == 0)
        #expect(try aurora.run("clone", "rt", "fn").code == 0)
        #expect(try aurora.run("exec", "fn", "--", "sh", "-c", "echo function > /root/kind; sync").code == 0)
        #expect(try aurora.run("checkpoint", "fn").code == 0)
        _ = try aurora.run("kill", "rt", "fn")
    }

    private struct Images: Decodable {
        let runtime: String
        let function: String
    }

    private func images() throws -> Images {
        let result = try aurora.run("machine", "launch-images", "--runtime", "group/rt", "--function", "group/fn")
        #expect(result.code == 0, "\(result.error)")
        return try JSONDecoder().decode(Images.self, from: Data(result.output.utf8))
    }

    /// Processes that work on this test's launch images: an instance host, and what it forked.
    private func processes() -> [Int32] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { Int32($0) }.filter {
            let words = (try? Data(contentsOf: URL(filePath: "/proc/\($0)/cmdline"))) ?? Data()
            return String(decoding: words, as: UTF8.self).contains(launchPath)
        }
    }

    private func waitFor(_ what: String, _ condition: () throws -> Bool) rethrows {
        for _ in 0..<6000 {
            if try condition() { return }
            usleep(50_000)
        }
        Issue.record("not within five minutes: \(what)")
    }

    @Test func clonesShareNothingThatMustDiffer() throws {
        struct Figures: Decodable {
            struct Uniqueness: Decodable {
                let clones, random, uuids, boots, sequenceNumbers: Int
                let clockMilliseconds: Double
            }
            let clones, processesLeft: Int
            let uniqueness: Uniqueness
        }
        let count = ProcessInfo.processInfo.environment["AURORA_CLONES"].flatMap { Int($0) } ?? 12
        let result = try aurora.run(
            "machine", "clones", "--runtime", "group/rt", "--function", "group/fn", "--count", "\(count)", "--check")
        #expect(result.code == 0, "\(result.error)\(result.output)")
        let figures = try JSONDecoder().decode(Figures.self, from: Data(result.output.utf8))
        #expect(figures.clones == count)
        #expect(figures.processesLeft == 0)
        #expect(figures.uniqueness.random == count && figures.uniqueness.uuids == count)
        #expect(figures.uniqueness.boots == count && figures.uniqueness.sequenceNumbers == count)
        // No duration: the guest's clock was read between two readings of the host's.
        #expect(figures.uniqueness.clockMilliseconds < 1)
        #expect(processes().isEmpty)
    }

    /// What the vCPU touches ahead leaves memory as it was, and the guest goes on from there.
    @Test func touchingAheadChangesNothing() throws {
        let made = try images()
        let image = try LaunchImage(directory: "\(launchPath)/\(made.runtime)")
        let state = try image.machineState()
        let memory = try LaunchMemory(image, state: state)
        var configuration = MachineConfiguration(memoryBytes: MachineConfiguration.memoryBytesMin, kernelPath: "")
        configuration.blockDevices = [
            BlockDeviceConfiguration(
                backend: try LaunchDisk(image) { () throws(SystemError) in
                    try ScratchFile(in: launchPath)
                })
        ]
        if image.manifest.hasNetwork { configuration.network = NetworkDeviceConfiguration(unpluggedWith: [2, 0xA5, 0, 0, 0, 2]) }
        configuration.dirtyRingEntries = 0
        let output = DispatchSemaphore(value: 0)
        configuration.consoleLog = { _ in output.signal() }
        let machine = try Machine(configuration, aheadOf: state, memory: memory.mappings)
        defer { machine.stop() }
        // Others need none of it.
        guard machine.mode == .pv else { return }
        let before = memory.mappings.map { Array($0.bytes) }
        let roots = try image.pages(base: nil) { Machine.isTopTable($0) }.map { UInt64($0 * pageBytes) }
        #expect(!roots.isEmpty)
        // Every page that has an address, and all of them written.
        let uses = [UInt8](repeating: 2, count: machine.memory.pageCount)
        let touched = try machine.rest().touchAhead(state, roots: roots, uses: uses)
        #expect(touched > 1000)
        #expect(zip(memory.mappings, before).allSatisfy { memcmp($0.base, $1, $1.count) == 0 })
        try machine.rest().begin(state)
        machine.start()
        #expect(output.wait(timeout: .now() + 300) == .success, "it prints")
    }

    /// What an instance writes has a bound: beyond it a write fails, and the disk is as it was.
    @Test func scratchFilesAreBounded() throws {
        let image = try LaunchImage(directory: "\(launchPath)/\(try images().runtime)")
        let disk = try LaunchDisk(image) { () throws(SystemError) in try ScratchFile(in: launchPath) }
        disk.limitScratch(bytes: 4 * pageBytes)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 5 * pageBytes, alignment: pageBytes)
        defer { buffer.deallocate() }
        let base = try #require(buffer.baseAddress)
        func write(_ pages: Int, at page: Int) throws(SystemError) {
            var vectors = IOVectors()
            vectors.append(base: base, count: pages * pageBytes)
            try disk.write(vectors, at: Int64(page * pageBytes))
        }
        #expect(throws: SystemError.self) { try write(5, at: 100) }
        try write(3, at: 100)
        #expect(throws: SystemError.self) { try write(2, at: 200) }
        try write(3, at: 100)
        try write(2, at: 102)
        #expect(throws: SystemError.self) { try write(1, at: 300) }
        try disk.writeZeroes(at: Int64(100 * pageBytes), count: Int64(pageBytes), mayFree: true)
        try write(1, at: 300)
    }

    /// The first run is recorded exactly; a machine bound ahead later has been shown all of it.
    @Test func whatWasRecordedIsShownAhead() throws {
        func measure(_ options: String...) throws -> [String: [String: Double]] {
            let words = ["machine", "measure-launch", "--runtime", "group/rt", "--function", "group/fn", "--count", "1"]
            let result = try aurora.run(words + options)
            #expect(result.code == 0, "\(result.error)")
            return try JSONDecoder().decode([String: [String: Double]].self, from: Data(result.output.utf8))
        }
        #expect(try measure("--bound")["addresses_ahead"]?["median"] == 0, "nothing is known yet")
        let recorded = try measure("--bare", "--record", "--during", "500")["pages_touched"]?["median"] ?? 0
        #expect(recorded > 100)
        let shown = try measure("--bound", "--during", "500")
        #expect(shown["addresses_ahead"]?["median"] ?? 0 > recorded / 2, "\(shown)")
        #expect(shown["first_output_us"] != nil, "it runs: \(shown)")
    }

    @Test func damagedLaunchFilesAreNamedAndMadeAgain() throws {
        let made = try images()
        let base = "\(launchPath)/\(made.runtime)"
        let harms: [(String, (String) throws -> Void)] = [
            ("\(base)/memory", { try harm($0, at: 1 << 20) }),
            ("\(base)/state", { try harm($0, at: 100) }),
            ("\(base)/launch.json", { try FileManager.default.removeItem(atPath: $0) }),
            ("\(launchPath)/\(made.function)/memory", { #expect(truncate($0, 4096) == 0) }),
            ("\(launchPath)/\(made.function)/memory.runs", { try harm($0, at: 20) }),
            ("\(launchPath)/\(made.function)/disk", { try FileManager.default.removeItem(atPath: $0) }),
        ]
        for (path, harm) in harms {
            let before = try contents(path)
            try harm(path)
            if path.hasPrefix(base) {
                // Without the store, as an instance host opens it: refused, and the file named.
                let host = try InstanceHostLink(program: Command.path, launchPath: launchPath, base: made.runtime)
                guard case .message(let bytes, _) = host.socket.receive(waits: true),
                    let report = InstanceMessages.decode(bytes[...], as: InstanceHostReport.self)
                else {
                    Issue.record("the host told nothing of \(path)")
                    return
                }
                #expect(report.kind == .failed && report.reason.contains(path), "\(report)")
                host.end()
            }
            let again = try images()
            #expect(again.runtime == made.runtime && again.function == made.function)
            #expect(try contents(path) == before, "\(path) is as it was")
        }
        // What an interrupted builder left is removed, and nothing else is.
        try FileManager.default.createDirectory(atPath: "\(launchPath)/.new-left-1-1", withIntermediateDirectories: false)
        #expect(try aurora.run("machine", "launch-images", "--runtime", "group/rt", "--tidy").code == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: launchPath).filter { $0 != ".lock" } == [made.runtime])
    }

    private func contents(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: path)) }

    /// Flips a bit where a page is not zero.
    private func harm(_ path: String, at start: Int) throws {
        let file = try FileHandle(forUpdating: URL(filePath: path))
        defer { try? file.close() }
        try file.seek(toOffset: UInt64(start))
        let byte = try #require(try file.read(upToCount: 1)?.first)
        try file.seek(toOffset: UInt64(start))
        try file.write(contentsOf: [byte ^ 1])
        try file.synchronize()
    }

    /// The launch images of functions, by the functions' names.
    private final class FixedLaunches: LaunchProvider {
        let launchPath: String
        let launches: [String: FunctionLaunch]
        /// Names of the functions that were looked up, each time.
        let lookups = Mutex<[String]>([])
        init(launchPath: String, launches: [String: FunctionLaunch]) { (self.launchPath, self.launches) = (launchPath, launches) }
        func bytes(ofLaunchImage digest: String) -> Int { 0 }
        func noteUse(of launch: FunctionLaunch) {}
        func trim(to bytesMax: Int, _ letGo: (String, () -> Void) -> Bool) -> (kept: [String: Int], removed: [String]) { ([:], []) }
        func launch(_ function: DeployedFunction, claiming claim: (String) -> Void) throws(InstanceError) -> FunctionLaunch {
            lookups.withLock { $0.append(function.name) }
            guard let launch = launches[function.name] else { throw .restore("there is no \(function.name)") }
            return launch
        }
        func removeUnused(
            keeping kept: () -> (functions: [DeployedFunction], launches: [FunctionLaunch])
        ) throws(InstanceError) -> Set<String> {
            Set(kept().functions.compactMap { launches[$0.name] }.flatMap { [$0.runtime, $0.digest] })
        }
    }

    private static let function = DeployedFunction(name: "f", image: "base", memoryBytes: 128 << 20, timeoutSeconds: 3, revision: "1")

    private func launches(_ images: Images, foreign: Images? = nil) -> FixedLaunches {
        let found = ["f": images, "foreign": foreign].compactMapValues { $0 }
        return FixedLaunches(
            launchPath: launchPath, launches: found.mapValues { FunctionLaunch(runtime: $0.runtime, digest: $0.function) })
    }

    private func pool(_ launches: FixedLaunches) throws -> InstancePool {
        var configuration = PoolConfiguration()
        configuration.program = Command.path
        configuration.readyMax = 2
        return try InstancePool(launches, configuration)
    }

    private func descriptors() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count }

    @Test func killedInstancesAndHostsLeaveNothing() async throws {
        let images = try images()
        let before = try descriptors()
        try await killInstancesAndHosts(images)
        waitFor("the end of all processes") { processes().isEmpty }
        waitFor("the end of all descriptors") { (try? descriptors()) ?? .max <= before }
    }

    private func killInstancesAndHosts(_ images: Images) async throws {
        let pool = try pool(launches(images))
        let first = try await pool.start(LaunchTests.function)
        #expect(first.isUsable)
        let process = try #require(Int32(first.identifier.split(separator: "-")[1]))
        #expect(kill(process, SIGKILL) == 0)
        waitFor("the end of a killed instance") { !first.isUsable }
        await first.end()
        // The pool goes on, and so it does when its host is killed: with it go all of its instances.
        let second = try await pool.start(LaunchTests.function)
        let host = try #require(processes().min())
        #expect(kill(host, SIGKILL) == 0)
        waitFor("the end of the instances of a killed host") { !second.isUsable && !processes().contains(host) }
        await second.end()
        let third = try await pool.start(LaunchTests.function)
        #expect(third.isUsable)
        await third.end()
        pool.end()
    }

    /// Machines of a runtime that no function has any more are ended, but not while one of them is in use.
    @Test func machinesOfUnusedRuntimesAreEnded() async throws {
        let pool = try pool(launches(try images()))
        let instance = try await pool.start(LaunchTests.function)
        try await pool.tidy { [] }
        #expect(instance.isUsable && !processes().isEmpty)
        await instance.end()
        try await pool.tidy { [LaunchTests.function] }
        #expect(!processes().isEmpty)
        // A machine that is just ending counts as one in use.
        while !processes().isEmpty {
            try await pool.tidy { [] }
            try await Task.sleep(for: .milliseconds(50))
        }
        let again = try await pool.start(LaunchTests.function)
        #expect(again.isUsable)
        await again.end()
        pool.end()
    }

    /// Launch images on a full disk, then by several processes at once: one of them makes each, all get it, nothing is left beside.
    @Test func buildersMeetAFullDiskAndEachOther() throws {
        let words = ["machine", "launch-images", "--runtime", "group/rt", "--function", "group/fn"]
        // A file system of its own, which only this command sees, and what is left in it.
        let small = "mkdir -p $0 && mount -t tmpfs -o size=4m none $0 && { \"$@\"; code=$?; ls -A $0; exit $code; }"
        let full = try aurora.run(words, launcher: ["/usr/bin/unshare", "-m", "/bin/sh", "-c", small, launchPath])
        #expect(
            full.code == 1 && full.error.contains("No space left on device") && full.error.contains("\(launchPath)/.new-"), "\(full.error)")
        #expect(full.output == ".lock\n", "\(full.output)")

        let running = try (0..<4).map { _ in try aurora.start(words) }
        var made: Set<Data> = []
        for (process, _, output, error) in running {
            made.insert(output.fileHandleForReading.readDataToEndOfFile())
            let said = error.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            #expect(process.terminationStatus == 0, "\(String(decoding: said, as: UTF8.self))")
        }
        #expect(made.count == 1)
        let digests = try images()
        let left = try FileManager.default.contentsOfDirectory(atPath: launchPath).filter { $0 != ".lock" }
        #expect(Set(left) == [digests.runtime, digests.function])
    }

    /// A restore that fails when memory and disk are mapped: the machine is thrown away, another one tried, then the reason is told.
    @Test func restoreThatFailsHalfWayLeavesNothing() async throws {
        let good = try images()
        _ = try aurora.addCheckpoint("fn", name: "foreign") { state in
            let envelope = try CheckpointEnvelope(state, of: "it")
            var machine = try MachineState(encoded: Array(envelope.machine))
            // No processor has it: moreA, eax of leaf 7, subleaf 1.
            machine.features.words[5] |= 1 << 31
            return CheckpointEnvelope.encode(
                context: Array(state[16..<(state.count - envelope.machine.count)]), machine: try machine.encoded())
        }
        let bad = try images()
        #expect(bad.runtime == good.runtime && bad.function != good.function)
        let launches = launches(good, foreign: bad)
        let pool = try pool(launches)
        let first = try await pool.start(Self.function)
        let foreign = DeployedFunction(name: "foreign", image: "base", memoryBytes: 128 << 20, timeoutSeconds: 3, revision: "1")
        let invoker = Invoker(source: pool, limits: InvokerLimits())
        let refusal = await #expect(throws: InvokerError.self) {
            _ = try await invoker.invoke(foreign, concurrencyMax: nil) {
                Invocation(requestIdentifier: "r", payload: [], deadline: 0, functionARN: "")
            }
        }
        // The launch images are looked up at each try: one retry in all, whoever might do it.
        #expect(launches.lookups.withLock { $0 } == ["f", "foreign", "foreign"])
        #expect("\(String(describing: refusal))".contains("CPUID 0x7.1 eax bit 31"), "\(String(describing: refusal))")
        let second = try await pool.start(Self.function)
        #expect(first.isUsable && second.isUsable)
        await first.end()
        await second.end()
        waitFor("the end of the machines it was tried in") {
            let counts = pool.counts
            return counts.alive == counts.ready + counts.making
        }
        pool.end()
        waitFor("the end of all processes") { processes().isEmpty }
    }

    @Test func restoreOfWhatIsNotThereIsRefused() async throws {
        let images = try images()
        let pool = try pool(launches(Images(runtime: images.runtime, function: String(repeating: "0", count: 32))))
        await #expect(throws: InstanceError.self) { _ = try await pool.start(LaunchTests.function) }
        pool.end()
        waitFor("the end of all processes") { processes().isEmpty }
    }

    @Test func killedGatewayLeavesNoOrphans() throws {
        let (process, _, _, _) = try aurora.start([
            "machine", "measure-launch", "--runtime", "group/rt", "--function", "group/fn", "--count", "1", "--during", "600000",
        ])
        waitFor("an instance") { processes().count >= 2 }
        #expect(kill(process.processIdentifier, SIGKILL) == 0)
        process.waitUntilExit()
        waitFor("the end of host and instance") { processes().isEmpty }
    }
}
