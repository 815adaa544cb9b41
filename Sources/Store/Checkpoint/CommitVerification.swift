/// Whether everything a commit brought is on the disk, as it must be after a power cut before the commit may be believed.
struct CommitVerification {
    let block: CommitBlock
    let source: NodeSource

    /// False when something is missing or wrong; then the log ends before this commit.
    ///
    /// - Throws: `StoreError.disk` when the disk fails: then nothing is known, and nothing must be thrown away.
    func holds() throws(StoreError) -> Bool {
        if block.flags & CommitBlock.settledFlag != 0 { return true }
        do throws(StoreError) {
            try verify()
            return true
        } catch {
            if case .damaged = error { return false }
            throw error
        }
    }

    private func verify() throws(StoreError) {
        // A fresh source, so that nodes are read from the disk and not remembered.
        let source = NodeSource(disk: source.disk)
        let reader = PageReader(source: source)
        try Tree(reference: block.delta, source: source).forEachNode { _, height, entries throws(StoreError) in
            guard height == 0 else { return true }
            for entry in entries where !entry.location.isZero { try reader.verify(entry) }
            return true
        }
        // The newest table is the only one this commit can have written; its pages are old ones or in `delta`.
        if let table = block.chain.first, table != block.delta {
            try Tree(reference: table, source: source).forEachNode { _, _, _ in true }
        }
        try Tree(reference: block.state, source: source).forEachNode { _, height, entries throws(StoreError) in
            guard height == 0 else { return true }
            for entry in entries { try source.withBytes(of: entry.reference, what: "state") { _ in } }
            return true
        }
    }
}
