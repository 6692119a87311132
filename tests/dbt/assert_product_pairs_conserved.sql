with

expected as (

    select
        coalesce(
            sum(basket_count * (product_count::bigint * (product_count - 1) // 2)), 0
        ) as pair_occurrences
    from {{ ref('int_baskets_sized') }}

),

counted as (

    select
        coalesce(sum(copurchase_count), 0) as pair_occurrences,
        count(*) filter (
            where left_product_number >= right_product_number or copurchase_count < 1
        ) as impossible_pairs
    from {{ ref('int_product_pairs_counted') }}

)

select
    expected.pair_occurrences as expected_pair_occurrences,
    counted.pair_occurrences,
    counted.impossible_pairs
from expected
cross join counted
where
    expected.pair_occurrences <> counted.pair_occurrences
    or counted.impossible_pairs > 0
