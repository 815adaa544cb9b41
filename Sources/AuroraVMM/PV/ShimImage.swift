internal import GuestBlobs

/// The PV shim as built: a flat image whose header carries the addresses that only the linker knows.
///
/// `@unchecked Sendable`: the bytes are constants of this program.
struct ShimImage: @unchecked Sendable {
    let bytes: UnsafeRawBufferPointer
    let systemCallEntry: UInt64
    let breakpointStub: UInt64
    let exceptionStubs: UInt64
    let eventStubs: UInt64
    let cpu: UInt64
    let params: UInt64
    let gdt: UInt64
    let idt: UInt64
    let tss: UInt64
    let exceptionStackTop: UInt64
    let eventStackTop: UInt64
    let hypercall: UInt64
    let interruptReturn: UInt64
    let strict: Strict

    /// What strict isolation has besides.
    struct Strict {
        let exceptionStubs: UInt64
        let eventStubs: UInt64
        let idt: UInt64
        /// Pages that the kernel's tables and the users' show where `syscall` lands.
        let kernelGate: UInt64
        let userGate: UInt64
    }

    private static let magic: UInt64 = 0x004d_4948_5352_5541  // "AURSHIM\0"
    private static let headerWords = 21
    static let exceptionStubBytes: UInt64 = 32
    static let eventStubBytes: UInt64 = 32
    static let strictEventStubBytes: UInt64 = 64

    /// The image built into this program.
    ///
    /// - Throws: `MachineError.configuration` when the program was built without a shim.
    init() throws(MachineError) {
        let bytes = UnsafeRawBufferPointer(start: aurora_pvshim_bytes(), count: Int(aurora_pvshim_count()))
        guard bytes.count >= ShimImage.headerWords * 8, bytes.count <= ShimLayout.imageBytesMax,
            bytes.loadUnaligned(as: UInt64.self) == ShimImage.magic,
            bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == ShimLayout.version
        else { throw .configuration("this program was built without its PV shim; build it with: make build") }
        func word(_ index: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self) }
        self.bytes = bytes
        systemCallEntry = word(2)
        breakpointStub = word(3)
        exceptionStubs = word(4)
        eventStubs = word(5)
        cpu = word(6)
        params = word(7)
        gdt = word(8)
        idt = word(9)
        tss = word(10)
        exceptionStackTop = word(11)
        eventStackTop = word(12)
        hypercall = word(13)
        interruptReturn = word(14)
        strict = Strict(exceptionStubs: word(16), eventStubs: word(17), idt: word(18), kernelGate: word(19), userGate: word(20))
    }

    /// The offset of one of the image's virtual addresses in the shim's slot.
    static func offset(_ address: UInt64) -> Int { Int(address - ShimLayout.virtualBase) }
}
