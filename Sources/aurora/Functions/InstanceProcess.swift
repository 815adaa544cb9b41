import AgentProtocol
import AuroraVMM
import CLinux
import Functions
import Linux
import Snapshot

/// One instance: a forked process that makes a machine, waits for a function to restore into it, and ends with its control socket.
struct InstanceProcess: ~Copyable {
    /// The agent's port for functions.
    static let functionPort = FunctionLimits.vsockPort

    private let control: MessageSocket
    private let instance: Instance
    private let ending: EventDescriptor
    private var channel: OwnedDescriptor?
    private var isTrimmed = false

    /// Serves until the control socket is closed or the guest has ended; does not return.
    static func run(
        _ runtime: InstanceRuntime, control: consuming OwnedDescriptor, channel: consuming OwnedDescriptor, since began: Int64
    ) -> Never {
        _ = clinux_set_thread_name("aurora instance")
        let control = MessageSocket(adopting: control)
        do {
            let instance = try Instance(runtime)
            try instance.rehearse()
            let ending = try EventDescriptor()
            instance.machine.whenEnded { _ in ending.signal() }
            var report = InstanceReport(.ready)
            report.making = clinux_clock_ns(CLOCK_MONOTONIC) - began
            try control.send(report)
            var process = InstanceProcess(control, instance, ending, channel)
            process.serve()
        } catch {
            try? control.send(InstanceReport(.failed, reason: InstanceProcess.short("\(error)")))
            _exit(1)
        }
        // The end of the process is the end of everything in it: no thread needs to be waited for.
        _exit(0)
    }

    private init(_ control: MessageSocket, _ instance: Instance, _ ending: EventDescriptor, _ channel: consuming OwnedDescriptor) {
        self.control = control
        self.instance = instance
        self.ending = ending
        self.channel = consume channel
    }

    /// A reason that fits into a message.
    private static func short(_ reason: String) -> String { String(decoding: reason.utf8.prefix(1024), as: UTF8.self) }

    private mutating func serve() {
        while true {
            var descriptors = [
                pollfd(fd: control.rawValue, events: Int16(POLLIN), revents: 0),
                pollfd(fd: ending.rawValue, events: Int16(POLLIN), revents: 0),
            ]
            let count = clinux_poll(&descriptors, 2, -1)
            if count < 0, count != -Int(EINTR) { return }
            if descriptors[0].revents != 0, !answer() { return }
            if descriptors[1].revents != 0 {
                try? control.send(InstanceReport(.ended, reason: InstanceProcess.short(instance.machine.end.map { "\($0)" } ?? "")))
                return
            }
        }
    }

    /// Serves one request; false when there will be no other.
    private mutating func answer() -> Bool {
        switch control.receive(waits: false) {
        case .nothing: return true
        case .closed: return false
        case .message(let bytes, _):
            let received = clinux_clock_ns(CLOCK_MONOTONIC)
            guard let request = InstanceMessages.decode(bytes[...], as: InstanceRequest.self) else {
                return send(InstanceReport(.failed, reason: "the request cannot be read"))
            }
            return carryOut(request, received)
        }
    }

    private mutating func carryOut(_ request: InstanceRequest, _ received: Int64) -> Bool {
        switch request.kind {
        case .restore:
            do {
                var report = InstanceReport(.running)
                if let bytes = request.scratchBytes { instance.limitScratch(bytes: bytes) }
                report.times = try instance.restore(
                    request.launch ?? "", populates: request.populates ?? true, channel: channel.take(),
                    port: request.port ?? InstanceProcess.functionPort, received: received)
                report.workingSet = instance.populated
                return send(report)
            } catch {
                _ = send(InstanceReport(.failed, reason: InstanceProcess.short("\(error)")))
                return false
            }
        case .bind:
            do {
                var report = InstanceReport(.bound)
                var times = LaunchTimes()
                try instance.bind(request.launch ?? "", populates: request.populates ?? true, times: &times)
                report.times = times
                return send(report)
            } catch {
                _ = send(InstanceReport(.failed, reason: InstanceProcess.short("\(error)")))
                return false
            }
        case .pause:
            instance.pause()
            guard send(InstanceReport(.paused)) else { return false }
            // It has time now: what making and restoring needed of heap and files goes back, once.
            if !isTrimmed {
                instance.forget()
                _ = clinux_heap_trim()
            }
            isTrimmed = true
            return true
        case .resume:
            instance.resume()
            return send(InstanceReport(.resumed))
        case .status: return send(status())
        case .record: return record()
        case .forget:
            instance.forget(request.launch ?? "")
            return send(InstanceReport(.forgotten))
        case .end: return false
        }
    }

    private func record() -> Bool {
        do {
            var report = InstanceReport(.recorded)
            report.workingSet = try instance.record()
            return send(report)
        } catch { return send(InstanceReport(.failed, reason: InstanceProcess.short("\(error)"))) }
    }

    private func status() -> InstanceReport {
        var report = InstanceReport(.status)
        var times = LaunchTimes()
        times.running = instance.machine.runningSince
        report.times = times
        report.firstOutput = instance.firstOutput
        report.privateBytes = PrivateMemory.bytes()
        return report
    }

    private func send(_ report: InstanceReport) -> Bool {
        do throws(SystemError) { try control.send(report) } catch { return false }
        return true
    }
}
