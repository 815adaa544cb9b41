/// Strict isolation: what the tables of programs show of the shim (`Sources/PVShim/isolation.inc`).
extension ShimSlot {
    /// Makes the tables and descriptors that only a guest with strict isolation has.
    func isolate() {
        let strict = image.strict
        // The kernel's own tables show everything, and at the gate the pages that lead on to the usual ways in.
        mapGate(ShimLayout.kernelGateL1, page: strict.kernelGate, idt: image.idt, pageBits: ShimSlot.present, idtBits: ShimSlot.present)
        store(ShimSlot.physical(ShimLayout.kernelGateL1) | ShimSlot.present, at: ShimLayout.shimL2 + 16)
        // The users': the large page for ring 0 alone, and one page that they can execute and not write.
        let supervisor = ShimSlot.present & ~ShimSlot.user
        mapGate(
            ShimLayout.userGateL1, page: strict.userGate, idt: strict.idt, pageBits: ShimSlot.present & ~ShimSlot.writable,
            idtBits: supervisor | ShimSlot.noExecute)
        store(ShimSlot.physical(ShimLayout.userL2) | ShimSlot.present, at: ShimLayout.userL3)
        store(ShimSlot.physical(0) | supervisor | ShimSlot.large, at: ShimLayout.userL2)
        store(ShimSlot.physical(ShimLayout.userGateL1) | ShimSlot.present, at: ShimLayout.userL2 + 16)
        store(ShimSlot.physical(ShimLayout.userL3), at: parameter(ShimLayout.paramL3User))
        store(UInt8(1), at: cpu(ShimLayout.cpuStrict))
        for vector in 0..<32 {
            let stub = strict.exceptionStubs + UInt64(vector) * ShimImage.exceptionStubBytes
            setGate(vector, stub, of: strict.idt, privilege: vector == 3 || vector == 4 ? 3 : 0, stack: 0)
        }
        for event in 0..<ShimLayout.eventVectors {
            let stub = strict.eventStubs + UInt64(event) * ShimImage.strictEventStubBytes
            setGate(Int(ShimLayout.eventVectorBase) + event, stub, of: strict.idt, privilege: 0, stack: 1)
        }
    }

    private func mapGate(_ table: Int, page: UInt64, idt: UInt64, pageBits: UInt64, idtBits: UInt64) {
        store(ShimSlot.physical(ShimImage.offset(page)) | pageBits, at: table)
        store(ShimSlot.physical(ShimImage.offset(idt)) | idtBits, at: table + 8)
    }
}
