import CLinux

@testable import AuroraVMM

/// Feeds libFuzzer's inputs to the devices: the first byte chooses one, the rest drives it.
@main struct FuzzDevices {
    static func main() {
        var count = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
        exit(fuzzerRunDriver(&count, &arguments, fuzzOne))
    }
}

@_extern(c, "LLVMFuzzerRunDriver")
private func fuzzerRunDriver(
    _ count: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

private func fuzzOne(_ data: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    let bytes = Array(UnsafeBufferPointer(start: data, count: count))
    guard let first = bytes.first else { return 0 }
    let kinds = DeviceHarness.Kind.allCases
    guard let harness = try? DeviceHarness(kinds[Int(first) % kinds.count]) else { return 0 }
    if let problem = harness.run(Array(bytes.dropFirst())) {
        print(problem)
        abort()
    }
    return 0
}
