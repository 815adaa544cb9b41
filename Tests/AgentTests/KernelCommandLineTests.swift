import AgentProtocol
import Testing

@testable import GuestAgentCore

@Suite struct KernelCommandLineTests {
    private let line = KernelCommandLine(
        [UInt8](#"quiet aurora.root=/dev/vda aurora.devices=0x1000:5,0x2000:6 virtio-mmio.device=4K@0x3000:9 x="a b""#.utf8))

    @Test func findsValues() {
        #expect(line.value(of: "aurora.root") == "/dev/vda")
        #expect(line.value(of: "aurora.rootfstype") == nil)
        #expect(line.value(of: "aurora.roo") == nil)
        #expect(line.value(of: "x") == "a b")
    }

    @Test func givesModulesTheirParameters() {
        #expect(line.moduleParameters("aurora") == "devices=0x1000:5,0x2000:6")
        #expect(line.moduleParameters("virtio_mmio") == "device=4K@0x3000:9")
        #expect(line.moduleParameters("virtio") == "")
    }
}
