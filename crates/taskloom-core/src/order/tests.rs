use super::*;
use proptest::prelude::*;

fn graph(edges: &[&[u32]]) -> Dependencies {
    let mut graph = Dependencies::default();
    edges.iter().for_each(|node| graph.push(node.iter().copied()));
    graph
}

/// The largest number of results alive at a time; results that nobody uses live on.
fn peak(graph: &Dependencies, position: &[u32]) -> usize {
    let mut users: Vec<usize> = graph.reversed_counts();
    let mut sequence: Vec<u32> = (0..graph.len() as u32).collect();
    sequence.sort_by_key(|&node| position[node as usize]);
    let (mut live, mut peak) = (0usize, 0);
    for node in sequence {
        live += 1;
        peak = peak.max(live);
        for &input in graph.of(node) {
            users[input as usize] -= 1;
            live -= usize::from(users[input as usize] == 0);
        }
    }
    peak
}

impl Dependencies {
    fn reversed_counts(&self) -> Vec<usize> {
        let users = self.reversed();
        users.nodes().map(|node| users.of(node).len()).collect()
    }
}

fn peak_of(graph: &Dependencies) -> usize {
    peak(graph, &order(graph).expect("no cycle"))
}

/// A tree that joins `fan` results at a time; `leaf` adds one leaf and returns its node.
fn reduction(
    graph: &mut Dependencies,
    leaves: u32,
    fan: usize,
    leaf: impl Fn(&mut Dependencies, u32) -> u32,
) -> u32 {
    let mut level: Vec<u32> = (0..leaves).map(|i| leaf(graph, i)).collect();
    while level.len() > 1 {
        let join = |group: &[u32]| {
            graph.push(group.iter().copied());
            graph.len() as u32 - 1
        };
        level = level.chunks(fan).map(join).collect();
    }
    level[0]
}

fn plain_leaf(graph: &mut Dependencies, _: u32) -> u32 {
    graph.push([]);
    graph.len() as u32 - 1
}

#[test]
fn a_chain_of_100_000_tasks_runs_in_its_own_order() {
    let mut chain = Dependencies::default();
    chain.push([]);
    (1..100_000).for_each(|i| chain.push([i - 1]));
    let position = order(&chain).unwrap();
    assert!(position.iter().zip(0u32..).all(|(&got, expected)| got == expected));
}

#[test]
fn a_fan_of_100_000_in_and_out_is_ordered() {
    let mut fan = Dependencies::default();
    fan.push([]);
    (0..100_000).for_each(|_| fan.push([0]));
    fan.push(1..=100_000);
    let position = order(&fan).unwrap();
    assert_eq!((position[0], position[1], position[100_001]), (0, 1, 100_001));
}

#[test]
fn a_tree_reduction_holds_one_group_per_level() {
    for (leaves, fan) in [(1024, 2), (4096, 4), (1000, 10)] {
        let mut tree = Dependencies::default();
        reduction(&mut tree, leaves, fan, plain_leaf);
        let levels = f64::from(leaves).log(fan as f64).ceil() as usize;
        let bound = levels * (fan - 1) + 2;
        assert!(peak_of(&tree) <= bound, "{leaves} by {fan}: {} > {bound}", peak_of(&tree));
    }
}

#[test]
fn a_shared_input_does_not_make_all_leaves_start_first() {
    let mut tree = Dependencies::default();
    tree.push([]);
    reduction(&mut tree, 256, 4, |graph, _| {
        graph.push([0]);
        graph.len() as u32 - 1
    });
    assert!(peak_of(&tree) <= 16, "{}", peak_of(&tree));
}

#[test]
fn blockwise_sums_of_two_arrays_hold_one_pair_of_blocks() {
    let mut sums = Dependencies::default();
    let blocks = 500;
    // All blocks of the first array are added before those of the second.
    (0..2 * blocks).for_each(|_| sums.push([]));
    (0..blocks).for_each(|i| sums.push([i, blocks + i]));
    reduction_over(&mut sums, 2 * blocks..3 * blocks, 4);
    assert!(peak_of(&sums) <= 20, "{}", peak_of(&sums));
}

fn reduction_over(graph: &mut Dependencies, nodes: std::ops::Range<u32>, fan: usize) {
    let mut level: Vec<u32> = nodes.collect();
    while level.len() > 1 {
        let join = |group: &[u32]| {
            graph.push(group.iter().copied());
            graph.len() as u32 - 1
        };
        level = level.chunks(fan).map(join).collect();
    }
}

#[test]
fn a_stencil_moves_along_its_row() {
    let mut stencil = Dependencies::default();
    let width = 1000u32;
    (0..width).for_each(|_| stencil.push([]));
    // Each block meets its neighbours; one last task wants all of them.
    for i in 0..width {
        stencil.push(i.saturating_sub(1)..=(i + 1).min(width - 1));
    }
    (0..width).for_each(|i| stencil.push([width + i]));
    reduction_over(&mut stencil, 2 * width..3 * width, 4);
    assert!(peak_of(&stencil) <= 24, "{}", peak_of(&stencil));
}

#[test]
fn a_shuffle_holds_its_inputs_and_one_output_at_a_time() {
    let mut shuffle = Dependencies::default();
    let n = 40;
    (0..n).for_each(|_| shuffle.push([]));
    for input in 0..n {
        (0..n).for_each(|_| shuffle.push([input]));
    }
    let part = |input: u32, output: u32| n + input * n + output;
    (0..n).for_each(|output| shuffle.push((0..n).map(|input| part(input, output))));
    // Outputs stay alive, so that n inputs, n parts and n outputs may meet.
    assert!(peak_of(&shuffle) <= 3 * n as usize, "{}", peak_of(&shuffle));
}

#[test]
fn a_cycle_is_named_by_its_path() {
    assert_eq!(order(&graph(&[&[0]])), Err(Cycle { path: vec![0] }));
    let cycle = order(&graph(&[&[], &[0, 3], &[1], &[2], &[3]])).unwrap_err();
    assert_eq!(cycle.path, [1, 3, 2]);
}

#[test]
fn dependencies_named_twice_count_once() {
    let twice = graph(&[&[], &[0, 0, 0], &[1, 0, 1]]);
    assert_eq!(twice.of(2), [0, 1]);
    assert_eq!(order(&twice), Ok(vec![0, 1, 2]));
}

#[test]
fn an_empty_graph_has_an_empty_order() {
    assert_eq!(order(&Dependencies::default()), Ok(vec![]));
}

/// Edges between random nodes, in any direction.
fn any_graph() -> impl Strategy<Value = Dependencies> {
    (1u32..60).prop_flat_map(|n| {
        proptest::collection::vec(proptest::collection::vec(0..n, 0..4), n as usize)
            .prop_map(|nodes| graph(&nodes.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    })
}

/// Edges along a random permutation: no cycle.
fn acyclic_graph() -> impl Strategy<Value = Dependencies> {
    let names = |n: u32| Just((0..n).collect::<Vec<u32>>()).prop_shuffle();
    (1u32..80).prop_flat_map(move |n| {
        let edges =
            proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..5), n as usize);
        (names(n), edges).prop_map(|(names, edges)| {
            let mut nodes = vec![Vec::new(); names.len()];
            for (i, inputs) in edges.iter().enumerate().skip(1) {
                nodes[names[i] as usize] =
                    inputs.iter().map(|&input| names[input as usize % i]).collect();
            }
            graph(&nodes.iter().map(Vec::as_slice).collect::<Vec<_>>())
        })
    })
}

proptest! {
    #[test]
    fn an_order_is_a_permutation_with_dependencies_first(graph in acyclic_graph()) {
        let position = order(&graph).unwrap();
        let mut sorted = position.clone();
        sorted.sort_unstable();
        prop_assert!(sorted.iter().zip(0u32..).all(|(&got, expected)| got == expected));
        for node in 0..graph.len() as u32 {
            for &input in graph.of(node) {
                prop_assert!(position[input as usize] < position[node as usize]);
            }
        }
    }

    #[test]
    fn a_reported_cycle_is_one(graph in any_graph()) {
        if let Err(Cycle { path }) = order(&graph) {
            prop_assert!(!path.is_empty());
            for (i, &node) in path.iter().enumerate() {
                let needed = path[(i + 1) % path.len()];
                prop_assert!(graph.of(node).contains(&needed));
            }
        }
    }
}
