import AgentClient
import AgentProtocol
import ArgumentParser
import AuroraVMM
import CLinux
import Dispatch
import Linux
import Snapshot

/// What checkpoints cost: stop time in its parts, pages, rate; for benchmarks.
struct MeasureEpochsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure-epochs",
        abstract: "Checkpoint a guest to memory for a while and tell what that costs; JSON on standard output.")

    @OptionGroup var options: MachineOptions
    @Option(help: "Seconds.") var seconds = 10.0
    @Option(help: "Milliseconds from one checkpoint to the next.") var period = 10.0
    @Option(help: "Milliseconds before the first.") var after = 2000
    @Option(help: "What becomes of the epochs: memory, or nothing.") var backend = "memory"
    @Option(help: "MiB of buffers.") var pool = PagePool.bytesDefault >> 20
    @Option(help: "A shell command to run in the guest before, through the agent.") var exec: String?
    @Argument(help: "Words for the kernel's command line.") var words: [String] = []

    func run() throws {
        let machine = try Machine(options.configuration(words: words))
        machine.start()
        if let exec { try start(exec, in: machine) }
        usleep(UInt32(after) * 1000)
        var configuration = PipelineConfiguration()
        configuration.period = .fixed(nanoseconds: Int64(period * 1e6))
        configuration.poolBytes = pool << 20
        let pipeline = try EpochPipeline(machine, configuration)
        let start = DispatchTime.now()
        let target: any Backend = backend == "memory" ? MemoryBackend() : NullBackend()
        try pipeline.attach(target)
        while pipeline.lastEpoch.rawValue == 0, pipeline.failure == nil, machine.end == nil { usleep(1000) }
        let full = milliseconds(since: start)
        let first = pipeline.statistics.epochs.first
        let begin = DispatchTime.now()
        let processorBegin = clinux_clock_ns(CLOCK_PROCESS_CPUTIME_ID)
        let epochsBefore = pipeline.lastEpoch.rawValue
        while milliseconds(since: begin) < seconds * 1000, pipeline.failure == nil, machine.end == nil { usleep(10_000) }
        let elapsed = milliseconds(since: begin) / 1000
        let epochs = pipeline.lastEpoch.rawValue - epochsBefore
        let processor = Double(clinux_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - processorBegin) / 1e9
        if let failure = pipeline.failure { throw ValidationError("\(failure)") }
        if let end = machine.end { throw ValidationError("the guest ended: \(end)") }
        say(report(pipeline, first, full: full, rate: Double(epochs) / elapsed, processor: processor / elapsed))
        pipeline.stop()
        machine.stop()
    }

    /// Starts a command through the agent, as soon as that answers; its output is not looked at.
    private func start(_ command: String, in machine: Machine) throws {
        let done = DispatchSemaphore(value: 0)
        Task.detached {
            while machine.end == nil {
                if let socket = try? await machine.connectVsock(port: 1024), let agent = try? AgentClient(adopting: socket),
                    (try? agent.ping()) != nil,
                    let session = try? agent.start(
                        StartRequest(arguments: [Text("sh"), Text("-c"), Text(command)], survivesDisconnect: true))
                {
                    done.signal()
                    while let event = try? session.next() { _ = event }
                    return
                }
                usleep(10_000)
            }
        }
        guard done.wait(timeout: .now() + 30) == .success else { throw ValidationError("the guest's agent does not answer") }
    }

    private func report(
        _ pipeline: EpochPipeline, _ first: EpochStatistics?, full: Double, rate: Double, processor: Double
    ) -> String {
        let history = pipeline.statistics
        let parts: [(String, (EpochStatistics) -> Int64)] = [
            ("stop", \.stop), ("pause", \.pause), ("state", \.state), ("copy", \.copy), ("volumes", \.volumes), ("resume", \.resume),
            ("pre_copy", \.preCopy), ("delay", \.delay),
        ]
        let counts: [(String, (EpochStatistics) -> Int64)] = [
            ("pages", { Int64($0.pages) }), ("pages_in_stop", { Int64($0.pagesInStop) }), ("rounds", { Int64($0.rounds) }),
            ("staged_pages", { Int64($0.stagedPages) }),
        ]
        var fields = ["\"memory_mib\": \(options.memory)", "\"rate\": \(rounded(rate))", "\"processor\": \(rounded(processor))"]
        fields.append("\"full_ms\": \(rounded(full))")
        if let first {
            fields.append("\"full_pages_in_stop\": \(first.pagesInStop)")
            for (name, value) in parts { fields.append("\"full_\(name)_us\": \(rounded(Double(value(first)) / 1000))") }
        }
        // The first epoch is told apart.
        let later = Array(history.epochs.dropFirst())
        for (name, value) in parts { fields.append("\"\(name)_us\": \(summary(later.map(value), scale: 1000))") }
        for (name, value) in counts { fields.append("\"\(name)\": \(summary(later.map(value), scale: 1))") }
        return "{" + fields.joined(separator: ", ") + "}"
    }

    private func summary(_ values: [Int64], scale: Double) -> String {
        let all = Distribution(values)
        let parts = [("p50", all.p50), ("p99", all.p99), ("max", all.max)].map { "\"\($0)\": \(rounded(Double($1) / scale))" }
        return "{" + parts.joined(separator: ", ") + "}"
    }

    private func rounded(_ value: Double) -> Double { (value * 10).rounded() / 10 }
}

/// Forgets what it is given: the pipeline's own cost.
private final class NullBackend: Backend {
    let name = "nothing"
    func stage(_ pages: PageSet) throws(BackendError) {}
    func write(_ epoch: Epoch, after previous: EpochNumber?) throws(BackendError) {}
    func flush() throws(BackendError) {}
}
