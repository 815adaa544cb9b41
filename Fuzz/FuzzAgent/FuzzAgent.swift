import AgentProtocol
import CLinux
import GuestAgentCore

/// Feeds libFuzzer's inputs to what reads the agent's and the kernel's bytes: the first byte chooses, the rest is read.
@main struct FuzzAgent {
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
    let rest = Array(bytes.dropFirst())
    switch first % 4 {
    case 0: ProtocolHarness.readStream(rest)
    case 1: ProtocolHarness.readBody(first / 4, rest)
    default: ParserHarness.readKernelText(first / 4, rest)
    }
    return 0
}
