import AuroraVMM
import CLinux
import Functions
import Linux
import Snapshot

/// A process without threads that forks an instance process for each machine it is asked for, and reaps them.
///
/// What it has read and decoded is there in every instance, shared until one of them writes to it.
struct InstanceHost {
    /// The descriptor under which it finds the pool's socket.
    static let socketDescriptor: Int32 = 3

    private let socket: MessageSocket
    private let signals: SharedDescriptor
    private var runtime: InstanceRuntime
    private var machines: [Int32: String] = [:]

    /// Serves until the pool's end of the socket is closed; does not return.
    static func run(_ socket: consuming OwnedDescriptor, launchPath: String, base: String) -> Never {
        let socket = MessageSocket(adopting: socket)
        do {
            clinux_ignore_signal(SIGPIPE)
            _ = chdir("/")
            _ = clinux_descriptor_limit_raise()
            var host = try InstanceHost(socket, launchPath, base)
            try? socket.send(InstanceHostReport(.ready))
            host.serve()
            _exit(0)
        } catch {
            try? socket.send(InstanceHostReport(.failed, reason: "\(error)"))
            _exit(1)
        }
    }

    private init(_ socket: MessageSocket, _ launchPath: String, _ base: String) throws {
        self.socket = socket
        let wanted = [SIGCHLD]
        let number = try systemCall("receive", "signals") { clinux_signal_descriptor(wanted, Int32(wanted.count)) }
        signals = SharedDescriptor(OwnedDescriptor(adopting: Int32(number)))
        runtime = try InstanceRuntime(launchPath: launchPath, base: base)
    }

    private mutating func serve() {
        while true {
            var descriptors = [
                pollfd(fd: socket.rawValue, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals.rawValue, events: Int16(POLLIN), revents: 0),
            ]
            let count = clinux_poll(&descriptors, 2, -1)
            if count < 0, count != -Int(EINTR) { return }
            if descriptors[1].revents != 0 { reap() }
            guard descriptors[0].revents != 0 else { continue }
            switch socket.receive(waits: false) {
            case .nothing: break
            case .closed: return
            case .message(let bytes, let passed):
                guard let request = InstanceMessages.decode(bytes[...], as: InstanceHostRequest.self) else { break }
                if let digest = request.prepare { runtime.prepare(digest) }
                if let digest = request.forget { runtime.launches.forget(digest) }
                if let name = request.kill, let process = machines.first(where: { $0.value == name })?.key {
                    // Not reaped yet, so the number is still its own.
                    _ = clinux_kill(process, SIGKILL)
                }
                guard !request.machine.isEmpty, passed.count == 2 else { break }
                start(request.machine, control: passed[0], channel: passed[1])
            }
        }
    }

    private mutating func start(_ machine: String, control: SharedDescriptor, channel: SharedDescriptor) {
        let parent = getpid()
        let began = clinux_clock_ns(CLOCK_MONOTONIC)
        let child = clinux_fork()
        if child == 0 {
            guard clinux_die_with_parent(parent) == 0, let near = try? OwnedDescriptor.duplicate(of: control),
                let far = try? OwnedDescriptor.duplicate(of: channel)
            else { _exit(1) }
            _ = close(socket.rawValue)
            _ = close(signals.rawValue)
            _ = close(control.rawValue)
            _ = close(channel.rawValue)
            _ = clinux_unblock_all_signals()
            InstanceProcess.run(runtime, control: near, channel: far, since: began)
        }
        guard child > 0 else {
            let reason = "Cannot fork: \(Errno(rawValue: Int32(truncatingIfNeeded: -child)))"
            return report(InstanceHostReport(.refused, machine: machine, reason: reason))
        }
        machines[Int32(child)] = machine
        report(InstanceHostReport(.started, machine: machine, process: Int32(child)))
    }

    private mutating func reap() {
        while clinux_signal_read(signals.rawValue) > 0 {}
        while true {
            var status: Int32 = 0
            let process = clinux_reap(&status)
            guard process > 0 else { return }
            guard let machine = machines.removeValue(forKey: Int32(process)) else { continue }
            report(InstanceHostReport(.ended, machine: machine, process: Int32(process), status: status))
        }
    }

    private func report(_ report: InstanceHostReport) { try? socket.send(report) }
}
