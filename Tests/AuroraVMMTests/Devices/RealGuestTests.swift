import AgentClient
import AgentProtocol
import CLinux
import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// A machine with the base image, if this host has what it takes.
private final class RealGuest {
    private static let home = ProcessInfo.processInfo.environment["AURORA_HOME"] ?? "/var/lib/aurora"
    private static let kernel = home + "/kernel/current"
    private static let image = home + "/images/base/root.ext4"

    /// Whether guests can run here; says so loudly when not.
    static let isPossible: Bool = {
        let missing = ["/dev/kvm", kernel + "/vmlinux", image].filter { !FileManager.default.isReadableFile(atPath: $0) }
        if !missing.isEmpty { print("SKIPPED: tests of devices with a real guest: \(missing.joined(separator: ", ")) cannot be read") }
        return missing.isEmpty
    }()

    let machine: Machine
    private let directory = TemporaryDirectory()

    init() throws {
        var configuration = MachineConfiguration(memoryBytes: 256 << 20, kernelPath: Self.kernel + "/vmlinux")
        configuration.modulesDirectory = Self.kernel + "/modules"
        configuration.blockDevices = [.init(path: Self.image, overlayPath: directory.path + "/overlay")]
        configuration.vsockSocketPath = directory.path + "/vsock.sock"
        machine = try Machine(configuration)
        machine.resume()
    }

    deinit { machine.stop() }

    /// A connection to the agent, as soon as it answers.
    func client() throws -> AgentClient {
        var last: (any Error)?
        for _ in 0..<9000 {
            do { return try AgentClient(adopting: try VsockDialer.connect(directory.path + "/vsock.sock")) } catch { last = error }
            if let end = machine.end { Issue.record("the guest has ended: \(end)\n\(machine.console.tail)") }
            usleep(20_000)
        }
        throw try #require(last)
    }

    /// Runs a shell script in the guest and gives its output.
    func shell(_ script: String) throws -> String {
        let session = try client().start(StartRequest(arguments: ["sh", "-c", Text(script)]))
        let (status, output, error) = try ExecRelay.collect(session)
        #expect(status.shellCode == 0, "\(script): \(String(decoding: error, as: UTF8.self))")
        return String(decoding: output, as: UTF8.self)
    }

    /// Stops the guest, takes the state of all devices through JSON, gives it back, and lets the guest go on.
    func saveAndLoadDevices() throws {
        machine.pause()
        defer { machine.resume() }
        let windows = machine.devices.slots.map(\.window)
        let data = try JSONEncoder().encode(windows.map { $0.save() })
        let states = try JSONDecoder().decode([VirtioDeviceState].self, from: data)
        #expect(states == windows.map { $0.save() })
        for (window, state) in zip(windows, states) { try window.load(state) }
        for window in windows { window.kick() }
    }

    var failures: [String] {
        machine.devices.slots.compactMap { slot in slot.window.lastFailure.map { "\(slot.window.deviceType): \($0)" } }
    }
}

/// The devices under Linux's own drivers.
@Suite(.serialized, .timeLimit(.minutes(10)), .enabled(if: RealGuest.isPossible)) struct RealGuestTests {
    @Test func devicesAreFoundAndUsed() throws {
        let guest = try RealGuest()
        #expect(try guest.shell("cat /sys/block/vda/serial") == "aurora-0")
        #expect(try guest.shell("cat /sys/class/misc/hw_random/rng_current") == "virtio_rng.0\n")
        #expect(try guest.shell("head -c 1000 /dev/hwrng | wc -c") == "1000\n")
        let script = """
            head -c 30000000 /dev/urandom >/var/a; cp /var/a /var/b; sync; echo 3 >/proc/sys/vm/drop_caches
            cmp /var/a /var/b; rm /var/a; fstrim / || true
            """
        #expect(try guest.shell(script) == "")
        let big = try guest.shell("head -c 3000000 /dev/zero | tr '\\0' x")
        #expect(big.utf8.count == 3_000_000)
        #expect(guest.failures == [])
    }

    @Test func theBalloonGivesAndTakes() throws {
        let guest = try RealGuest()
        _ = try guest.shell("true")
        for target in [UInt32(10_000), 2_000, 0] {
            guest.machine.setBalloon(pages: target)
            for _ in 0..<6000 where guest.machine.balloonPages != target { usleep(20_000) }
            #expect(guest.machine.balloonPages == target)
        }
        #expect(try guest.shell("head -c 100000000 /dev/zero | wc -c") == "100000000\n")
        #expect(guest.failures == [])
    }

    @Test func aWorkingGuestDoesNotNoticeThatItsDevicesWereLoaded() throws {
        let guest = try RealGuest()
        let worker =
            "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); head -c 200000 /dev/urandom >/var/w; sync /var/w; echo $i >/var/count; done"
        _ = try guest.shell(
            "setsid sh -c '\(worker)' </dev/null >/dev/null 2>&1 & head -c 5000000 /dev/urandom >/var/a; cp /var/a /var/b; sync")
        let old = try guest.client()
        try old.ping()
        for round in 0..<20 {
            usleep(UInt32(5_000 + 3_000 * round))
            try guest.saveAndLoadDevices()
        }
        #expect(throws: AgentError.self, "connections do not survive") { try old.ping() }
        let before = try guest.shell("cat /var/count")
        var after = before
        for _ in 0..<600 where (Int(after.dropLast()) ?? 0) <= (Int(before.dropLast()) ?? 0) {
            usleep(100_000)
            after = try guest.shell("cat /var/count")
        }
        let isWorking = (Int(after.dropLast()) ?? 0) > (Int(before.dropLast()) ?? 0)
        #expect(isWorking, "from \(before) to \(after)")
        #expect(
            try guest.shell("echo 3 >/proc/sys/vm/drop_caches; cmp /var/a /var/b; dmesg | grep -i -E 'error|remount|blocked' || true") == ""
        )
        #expect(guest.failures == [])
    }
}
