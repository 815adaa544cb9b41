import ArgumentParser
import CLinux
import Functions
import Groups
import Linux
import Snapshot

/// What it takes to restore instances from launch images, part by part.
struct MeasureLaunchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure-launch",
        abstract: "Restore instances again and again, and tell what each part takes; JSON on standard output.")

    @Option(help: "The stream of the runtime's checkpoint.") var runtime: String
    @Option(help: "The stream of the function's checkpoint; absent: the runtime itself.") var function: String?
    @Option(help: "How many restores.") var count = 50
    @Option(help: "Milliseconds each instance runs.") var during = 50
    @Flag(help: "Has the kernel forget the launch files before each restore.") var cold = false

    @Flag(help: "Maps the function's memory before the clock starts, as the pool does for functions in use.") var bound = false
    @Flag(help: "Does not populate the working set.") var bare = false
    @Flag(help: "Records the working set after the first run.") var record = false
    @Flag(help: "Does not have the host read the function's launch image ahead.") var unprepared = false

    func run() throws {
        let data = CommandContext.data
        let source = try LaunchSource(try StoreAccess.open(data.storePath, readOnly: false), data)
        let began = clinux_clock_ns(CLOCK_MONOTONIC)
        let images = try source.images(runtime: runtime, function: function)
        var figures = LaunchFigures()
        figures.add("images_us", clinux_clock_ns(CLOCK_MONOTONIC) - began)
        let host = try InstanceHostLink(launchPath: data.launchPath, base: images.runtime.manifest.digest)
        try InstanceWaiting.expect(host.socket, .ready)
        figures.add("host_us", clinux_clock_ns(CLOCK_MONOTONIC) - began)
        if !unprepared { try host.socket.send(InstanceHostRequest(preparing: images.function.manifest.digest)) }
        for number in 0..<count {
            let machine = try host.makeMachine("m\(number)")
            let ready = try InstanceWaiting.next(machine.control, .ready)
            figures.add("making_us", ready.making ?? 0)
            if cold {
                images.runtime.dropCaches()
                images.function.dropCaches()
            }
            if bound {
                try machine.control.send(InstanceRequest(.bind, launch: images.function.manifest.digest, populates: !bare))
                let bound = try InstanceWaiting.next(machine.control, .bound).times ?? LaunchTimes()
                figures.add("ahead_map_us", bound.map)
                figures.add("ahead_populate_us", bound.populate)
                figures.add("ahead_touch_us", bound.touch)
            }
            let start = clinux_clock_ns(CLOCK_MONOTONIC)
            try machine.control.send(InstanceRequest(.restore, launch: images.function.manifest.digest, populates: !bare))
            let running = try InstanceWaiting.next(machine.control, .running)
            figures.add("answer_us", clinux_clock_ns(CLOCK_MONOTONIC) - start)
            usleep(UInt32(during) * 1000)
            try machine.control.send(InstanceRequest(.status))
            let status = try InstanceWaiting.next(machine.control, .status)
            if record {
                try machine.control.send(InstanceRequest(.record))
                let set = try InstanceWaiting.next(machine.control, .recorded).workingSet ?? WorkingSetFigures()
                for (name, value) in [("touched", set.touched), ("written", set.written), ("hits", set.hits), ("populated", set.populated)]
                {
                    figures.add("pages_\(name)", value * 1000)
                }
            }
            figures.add("addresses_ahead", (running.workingSet?.addresses ?? 0) * 1000)
            guard let times = running.times, let later = status.times else { continue }
            figures.add("open_us", times.open)
            figures.add("map_us", times.map)
            figures.add("populate_us", times.populate)
            figures.add("state_us", times.state)
            figures.add("resume_us", times.resume)
            figures.add("request_us", times.received - start)
            if later.running > start { figures.add("first_instruction_us", later.running - start) }
            if let output = status.firstOutput, output > 0 { figures.add("first_output_us", output - start) }
            figures.add("private_kib", (status.privateBytes ?? 0) / 1024 * 1000)
        }
        say(figures.json)
    }
}

/// Waiting for what an instance host or an instance tells.
enum InstanceWaiting {
    /// The next report of a host, which must be of a kind.
    static func expect(_ socket: MessageSocket, _ kind: InstanceHostReport.Kind) throws {
        guard case .message(let bytes, _) = socket.receive(waits: true),
            let report = InstanceMessages.decode(bytes[...], as: InstanceHostReport.self)
        else { throw GroupError(.host, "The instance host ended") }
        guard report.kind == kind else { throw GroupError(.host, "The instance host failed: \(report.reason)") }
    }

    /// Takes what a host has told meanwhile: it waits when nobody reads its reports.
    static func discard(_ socket: MessageSocket) {
        while case .message = socket.receive(waits: false) {}
    }

    /// The next report, which must be of a kind.
    static func next(_ control: MessageSocket, _ kind: InstanceReport.Kind) throws -> InstanceReport {
        guard case .message(let bytes, _) = control.receive(waits: true),
            let report = InstanceMessages.decode(bytes[...], as: InstanceReport.self)
        else { throw GroupError(.host, "The instance ended before it answered") }
        guard report.kind == kind else { throw GroupError(.host, "The instance answered \(report.kind): \(report.reason)") }
        return report
    }
}

/// Measured values by name, in thousandths of the unit that the name ends with.
struct LaunchFigures {
    private var values: [String: [Double]] = [:]

    mutating func add(_ name: String, _ thousandths: some BinaryInteger) { values[name, default: []].append(Double(thousandths) / 1000) }

    /// Count, least, median, 90th and 99th percentile, and greatest of each.
    var json: String {
        "{" + values.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \(LaunchFigures.summary($0.value))" }.joined(separator: ",\n ") + "}"
    }

    private static func summary(_ values: [Double]) -> String {
        let sorted = values.sorted()
        func at(_ share: Double) -> Double { (sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))] * 10).rounded() / 10 }
        let parts = [("min", at(0)), ("median", at(0.5)), ("p90", at(0.9)), ("p99", at(0.99)), ("max", at(1))]
        return "{\"count\": \(sorted.count), " + parts.map { "\"\($0)\": \($1)" }.joined(separator: ", ") + "}"
    }
}
