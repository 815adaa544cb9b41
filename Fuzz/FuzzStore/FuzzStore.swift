import CLinux

@testable import Store

/// Feeds libFuzzer's inputs to every decoder of the store's format: the first byte chooses, the rest is read.
///
/// Where a checksum guards a decoder the harness makes it right, since damage that the checksum finds is the easy kind.
@main struct FuzzStore {
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
    let rest = Array(bytes.dropFirst().prefix(StoreFormat.blockBytes))
    switch first % 8 {
    case 0: DecoderHarness.superblock(rest)
    case 1: DecoderHarness.slot(rest)
    case 2:
        DecoderHarness.segment(rest)
        DecoderHarness.stamp(rest)
    case 3: DecoderHarness.anchor(rest)
    case 4: DecoderHarness.commit(rest)
    case 5: DecoderHarness.history(rest)
    case 6: DecoderHarness.node(rest)
    default: DecoderHarness.compressed(rest)
    }
    return 0
}
