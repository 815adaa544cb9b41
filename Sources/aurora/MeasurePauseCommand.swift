import ArgumentParser
import AuroraVMM
import CLinux
import Dispatch

/// How long `rest()` takes, from the call to the moment nothing changes the guest any more.
struct MeasurePauseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure-pause", abstract: "Pause a guest at random moments and tell how long that takes; JSON on standard output.")

    @OptionGroup var options: MachineOptions
    @Option(help: "How many pauses.") var count = 2000
    @Option(help: "Milliseconds before the first.") var after = 1500
    @Option(help: "Seed of the moments.") var seed: UInt64 = 1
    @Flag(help: "Also takes the state at each pause, and encodes it when the guest runs again.") var state = false
    @Argument(help: "Words for the kernel's command line.") var words: [String] = []

    func run() throws {
        let machine = try Machine(options.configuration(words: words))
        machine.start()
        usleep(UInt32(after) * 1000)
        var pauses: [Double] = []
        var saves: [Double] = []
        var encodings: [Double] = []
        var encodedBytes = 0
        var random = seed
        for _ in 0..<count where machine.end == nil {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            usleep(200 + UInt32(random >> 33) % 3000)
            let start = DispatchTime.now()
            let resting = try machine.rest()
            pauses.append(milliseconds(since: start) * 1000)
            var saved: MachineState?
            if state {
                let start = DispatchTime.now()
                saved = try resting.save()
                saves.append(milliseconds(since: start) * 1000)
            }
            resting.resume()
            if let saved {
                let start = DispatchTime.now()
                encodedBytes = try saved.encoded().count
                encodings.append(milliseconds(since: start) * 1000)
            }
        }
        if let end = machine.end { throw ValidationError("the guest ended: \(end)") }
        var report = "{\"pause_us\": \(summary(pauses))"
        if state { report += ", \"save_us\": \(summary(saves)), \"encode_us\": \(summary(encodings)), \"encoded_bytes\": \(encodedBytes)" }
        say(report + "}")
        machine.stop()
    }

    private func summary(_ values: [Double]) -> String {
        let sorted = values.sorted()
        func at(_ share: Double) -> Double {
            let index = min(sorted.count - 1, Int(share * Double(sorted.count)))
            return (sorted[index] * 10).rounded() / 10
        }
        guard !sorted.isEmpty else { return "{}" }
        let shares: [(name: String, share: Double)] = [("min", 0), ("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1)]
        let parts = ["\"count\": \(sorted.count)"] + shares.map { "\"\($0.name)\": \(at($0.share))" }
        return "{" + parts.joined(separator: ", ") + "}"
    }
}
