/// A tree on the disk, read lazily: only the nodes on the way, each checked against whoever refers to it.
struct Tree: Sendable {
    let reference: TreeReference
    let source: NodeSource

    /// The entry with exactly this key; nil when there is none.
    func find(_ key: UInt64) throws(StoreError) -> TreeEntry? {
        guard reference.height > 0 else { return nil }
        var node = try source.node(reference.root, lower: nil, upper: nil)
        for _ in 1..<reference.height {
            guard let index = node.childIndex(for: key) else { return nil }
            node = try child(index, of: node, upper: nil)
        }
        return node.find(key)
    }

    /// The entries from a key on, in order.
    func cursor(from key: UInt64 = 0) throws(StoreError) -> TreeCursor {
        var cursor = TreeCursor(tree: self)
        try cursor.seek(to: key)
        return cursor
    }

    /// Goes through all nodes, parents first, so that whoever collects or scrubs can mark or check them.
    ///
    /// - Parameter visit: gets a node's reference, its height above the leaves and its entries; answers whether to go below it.
    func forEachNode(_ visit: (DataReference, Int, [TreeEntry]) throws(StoreError) -> Bool) throws(StoreError) {
        guard reference.height > 0 else { return }
        let root = try source.node(reference.root, lower: nil, upper: nil)
        try visitNode(root, reference.root, height: reference.height - 1, upper: nil, visit)
    }

    private func visitNode(
        _ node: TreeNode, _ place: DataReference, height: Int, upper: UInt64?,
        _ visit: (DataReference, Int, [TreeEntry]) throws(StoreError) -> Bool
    ) throws(StoreError) {
        guard try visit(place, height, node.entries), height > 0 else { return }
        for index in node.entries.indices {
            let below = try child(index, of: node, upper: upper)
            let end = index + 1 < node.entries.count ? node.entries[index + 1].key : upper
            try visitNode(below, node.entries[index].reference, height: height - 1, upper: end, visit)
        }
    }

    func child(_ index: Int, of node: TreeNode, upper: UInt64?) throws(StoreError) -> TreeNode {
        let entry = node.entries[index]
        let end = index + 1 < node.entries.count ? node.entries[index + 1].key : upper
        return try source.node(entry.reference, lower: entry.key, upper: end)
    }
}

/// A place in a tree's order.
struct TreeCursor: Sendable {
    private let tree: Tree
    /// From the root to a leaf: the nodes and where in each the cursor stands.
    private var path: [(node: TreeNode, index: Int)] = []

    init(tree: Tree) { self.tree = tree }

    /// The entry the cursor stands on; nil behind the last.
    var entry: TreeEntry? {
        guard let last = path.last, last.index < last.node.entries.count else { return nil }
        return last.node.entries[last.index]
    }

    /// Moves to the first entry with this key or a later one.
    mutating func seek(to key: UInt64) throws(StoreError) {
        path.removeAll(keepingCapacity: true)
        guard tree.reference.height > 0 else { return }
        let root = try tree.source.node(tree.reference.root, lower: nil, upper: nil)
        path.append((root, tree.reference.height > 1 ? root.childIndex(for: key) ?? 0 : 0))
        try descend { $0.childIndex(for: key) ?? 0 }
        let leaf = path.count - 1
        path[leaf].index = path[leaf].node.firstIndex(from: key)
        if entry == nil { try nextLeaf() }
    }

    /// Moves to the next entry.
    mutating func advance() throws(StoreError) {
        guard let last = path.indices.last else { return }
        path[last].index += 1
        if path[last].index == path[last].node.entries.count { try nextLeaf() }
    }

    private mutating func nextLeaf() throws(StoreError) {
        var depth = path.count - 2
        while depth >= 0, path[depth].index + 1 >= path[depth].node.entries.count { depth -= 1 }
        guard depth >= 0 else { return }
        path[depth].index += 1
        path.removeSubrange((depth + 1)...)
        try descend { _ in 0 }
    }

    /// Goes down to a leaf, from a node whose index says which way.
    private mutating func descend(_ choose: (TreeNode) -> Int) throws(StoreError) {
        while path.count < tree.reference.height, let last = path.last {
            let node = try tree.child(last.index, of: last.node, upper: nil)
            path.append((node, path.count + 1 < tree.reference.height ? choose(node) : 0))
        }
    }
}
